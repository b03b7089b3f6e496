"""Calls from a worker to other machines, on behalf of a definition.

A definition may come from someone who must not reach what the worker can reach: the cloud's
metadata service, the database, a neighbour's admin page (server-side request forgery, SSRF).
So nothing in the worker calls out except through :class:`worker.outbound.client.Outbound`,
and there each request goes the same way:

.. code-block:: text

    urls        one strict reading of the URL; what two parsers could read differently is refused
    resolving   the name becomes addresses, once
    addresses   every one of them is looked up in a table of what may not be called
    connecting  the connection is made to an address that was checked, never to the name
    redirects   a new request, which goes the whole way again
    client      the exchange itself: limits of time and size, decoding, errors without secrets

The check stands where the socket is opened. There is no way round it: no proxy, no
environment variable, no connection kept from another request, no unix socket.
"""
