"""Names and URLs that try to get round the guard of outgoing calls."""

from tests.unit.outbound_world import PUBLIC

HOSTILE_HOSTS = {
    "localhost": ["127.0.0.1"],
    "localhost.localdomain": ["::1"],
    "ip6-localhost": ["::1"],
    "metadata": ["169.254.169.254"],
    "metadata.google.internal": ["169.254.169.254"],
    "instance-data": ["169.254.169.254"],
    "redis": ["172.18.0.3"],
    "postgres": ["10.0.0.5"],
    "kubernetes.default.svc": ["10.96.0.1"],
    "127.0.0.1.nip.io": ["127.0.0.1"],
    "spoofed.example": ["192.168.1.1"],
    "half.example": [PUBLIC, "127.0.0.1"],
    "half6.example": [PUBLIC, "::1"],
    "later.example": [PUBLIC] * 5 + ["10.0.0.1"],
    "cgnat.example": ["100.64.0.1"],
    "alibaba.example": ["100.100.100.200"],
    "azure.example": ["168.63.129.16"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "compatible.example": ["::127.0.0.1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "teredo.example": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "nat64.example": ["64:ff9b::169.254.169.254"],
    "nat64local.example": ["64:ff9b:1::10.0.0.1"],
    "ula.example": ["fd00:ec2::254"],
    "linklocal.example": ["fe80::1%eth0"],
    "sitelocal.example": ["fec0::1"],
    "multicast.example": ["224.0.0.251"],
    "multicast6.example": ["ff02::fb"],
    "any.example": ["0.0.0.0"],
    "any6.example": ["::"],
    "broadcast.example": ["255.255.255.255"],
    "benchmark.example": ["198.18.0.1"],
    "isatap.example": ["2606:4700::5efe:10.0.0.1"],
    "xn--lcalhost-54a.example": ["127.0.0.1"],
    "nothing.example": [],
    "flood.example": [PUBLIC[:-2] + str(n) for n in range(100)],
    "nonsense.example": ["not an address"],
}

HOSTILE_URLS = [
    *(f"http://{host}/" for host in HOSTILE_HOSTS),
    # Addresses as they are.
    "http://127.0.0.1/", "http://127.0.0.1:6379/", "https://127.127.127.127/", "http://0.0.0.0/",
    "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/", "http://169.254.170.2/v2/credentials",
    "http://168.63.129.16/machine", "http://192.0.0.192/", "http://224.0.0.1/",
    "http://255.255.255.255/", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]:80/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::a00:1]/",
    "http://[2002:7f00:1::]/", "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fec0::1]/", "http://[ff02::1]/",
    # The same, as the C library reads them.
    "http://2130706433/", "http://0x7f000001/", "http://0x7F.0x0.0x0.0x1/", "http://017700000001/",
    "http://0177.0.0.1/", "http://127.1/", "http://127.0.1/", "http://0/", "http://0x0/",
    "http://127.0.0.1./", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
    "http://169.254.43518/", "http://10.1/", "http://192.168.257/", "http://0x00000000007f000001/",
    # Look-alikes.
    "http://127。0。0。1/", "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "http://①②⑦.⓪.⓪.①/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "http://localhost\u3002/", "http://LOCALHOST/", "http://localhost./", "http://lo\u00adcalhost/",
    # What parsers read differently.
    "http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/", "http://example.com:80@[::1]/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1\\@example.com/", "http://example.com\\.127.0.0.1/", "http:\\\\127.0.0.1\\",
    "http://example.com:80:127.0.0.1/", "http://127.0.0.1%2f@example.com/",
    "http://127.0.0.1%23.example.com/", "http://%6c%6f%63alhost/", "http://127.0.0.1%00.example/",
    "http://[::1%25lo]/", "http://[fe80::1%25eth0]/", "http://[::1].example.com/",
    "http://[::ffff:127.0.0.1%25]/", "http://[127.0.0.1]/", "http://127.0.0.1 .example.com/",
    "http://127.0.0.1\t/", "http://127.0.0.1\n.example.com/", "http://127.0.0.1\r\nHost: a/",
    "http://127.0.0.1\x00.example.com/", " http://127.0.0.1/", "http:/127.0.0.1/",
    "http:127.0.0.1", "http:///127.0.0.1/", "http:////127.0.0.1/", "//127.0.0.1/", "127.0.0.1:80",
    "http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://127.0.0.1:\uff18\uff10/", "http://1.2.3.4.5/",
    "http://256.256.256.256/", "http://0300.0250.1.09/",
    # Other schemes.
    "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:11211/stats", "ldap://127.0.0.1/", "jar:http://127.0.0.1!/", "data:,x",
    "unix:///run/docker.sock", "http+unix://%2Frun%2Fdocker.sock/info", "ws://127.0.0.1/",
]  # fmt: skip

HOSTILE_LOCATIONS = [
    url
    for url in HOSTILE_URLS
    # What a header cannot carry is refused by the HTTP library; the others need a scheme or a
    # host of their own, or they stay where they are.
    if url.isascii()
    and url.isprintable()
    and url == url.strip()
    and (url.startswith("//") or (url[0].isalpha() and ":" in url.partition("/")[0]))
]
