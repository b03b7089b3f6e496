"""What the OpenAPI document tells about each call: its answers, their headers, an example each.

The calls read their requests and write their answers themselves, so nothing of this costs
anything at run time.
"""

from api import examples
from api.describing import answer as _answer
from api.describing import body as _body
from api.describing import header as _header
from api.describing import operation as _operation
from api.describing import shape as _shape

_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Answer once the run ended, or after so many seconds (at most 60).",
    "schema": {"type": "number", "minimum": 0},
    "example": 5,
}
_RUN_ID = {
    "name": "flow_run_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "example": examples.RUN_ID,
}

_BODY_PROBLEMS = (400, 408, 413, 415, 422, 503)
_LOCATION = {"Location": "The path of the run."}

SUBMIT = _operation(
    "runs",
    "Start a run",
    {
        200: _answer(
            "The run ended within the wait, or the idempotency key gave it before.",
            "SubmitAnswer",
            examples.RUN,
            _LOCATION | {"Idempotent-Replayed": "`true` where the key gave the run again."},
        ),
        202: _answer("The run was accepted.", "AcceptedRun", examples.ACCEPTED, _LOCATION),
    },
    tuple(sorted((*_BODY_PROBLEMS, 409))),
    requestBody=_body(wrapped="SubmittedFlow", bare="FlowDefinition", stored="SubmittedId"),
    parameters=[
        _WAIT,
        _header("Prefer", "`wait=SECONDS`: the same as `?wait=` (RFC 7240).", "wait=5"),
        _header("Idempotency-Key", "The same key and body give the same run again.", "order-17"),
    ],
)
LIST_RUNS = _operation(
    "runs",
    "List runs",
    {200: _answer("A page of runs, the newest first.", "RunPage", examples.RUN_PAGE)},
    (422, 503),
)
GET_RUN = _operation(
    "runs",
    "Look at a run",
    {
        200: _answer("The run.", "Run", examples.RUN, {"ETag": "Changes whenever the run does."}),
        304: {"description": "Nothing has changed since the state of `If-None-Match`."},
    },
    (404, 422, 503),
    parameters=[
        _RUN_ID,
        _WAIT,
        _header("If-None-Match", "The `ETag` of the state that is known.", 'W/"5d41402a"'),
    ],
)
LIST_TASK_RUNS = _operation(
    "runs",
    "List the task runs of a run",
    {200: _answer("A page of task runs.", "TaskRunPage", examples.TASK_RUN_PAGE)},
    (404, 422, 503),
    parameters=[_RUN_ID],
)
EXPLAIN = _operation(
    "runs",
    "Say why a run does not move",
    {200: _answer("A sentence for every reason.", "Explanation", examples.EXPLANATION)},
    (404, 422, 503),
    parameters=[_RUN_ID],
)
CANCEL = _operation(
    "runs",
    "Cancel a run",
    {
        202: _answer(
            "It is cancelled or, where it has something to undo, `running` until that is done.",
            "AcceptedRun",
            examples.CANCELLED,
            _LOCATION,
        )
    },
    (400, 404, 408, 409, 413, 415, 422, 503),
    parameters=[_RUN_ID],
)
RERUN = _operation(
    "runs",
    "Run a run again",
    {
        200: _answer(
            "The idempotency key gave this run before.",
            "AcceptedRun",
            examples.ACCEPTED,
            _LOCATION | {"Idempotent-Replayed": "`true`"},
        ),
        202: _answer("A new run was accepted.", "AcceptedRun", examples.ACCEPTED, _LOCATION),
    },
    (400, 404, 408, 409, 413, 415, 422, 503),
    requestBody={
        "description": "From where on, with which input, by which definition.",
        "required": False,
        "content": {
            "application/json": {"schema": _shape("Rerun"), "example": examples.RERUN},
        },
    },
    parameters=[
        _RUN_ID,
        _header("Idempotency-Key", "The same key and body give the same run again.", "again-17"),
    ],
)
SEND_SIGNAL = _operation(
    "runs",
    "Send a signal to a run",
    {202: _answer("It is kept or has ended a wait.", "AcceptedRun", examples.ACCEPTED, _LOCATION)},
    (400, 404, 408, 409, 413, 415, 422, 503),
    requestBody={
        "description": "Any JSON, or nothing.",
        "required": False,
        "content": {"application/json": {"schema": {}, "example": {"approved": True}}},
    },
    parameters=[
        _RUN_ID,
        _header("Idempotency-Key", "The same key counts once.", "approval-17"),
    ],
)
VALIDATE = _operation(
    "definitions",
    "Judge a definition without running it",
    {
        200: _answer(
            "What is wrong, what is doubtful, and what it means.", "Verdict", examples.VERDICT
        )
    },
    (400, 408, 413, 415, 422, 503),
    # Any JSON is judged: what is no definition gets a verdict, too.
    requestBody=_body(wrapped=None, bare=None),
)
SIMULATE = _operation(
    "definitions",
    "Simulate a run",
    {200: _answer("What the run comes to.", "SimulatedRun", examples.SIMULATED_RUN)},
    (400, 408, 413, 415, 422, 503),
    requestBody=_body(simulation="SimulatedFlow"),
)
_FLOW_ID = {
    "name": "flow_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "example": examples.FLOW_ID,
}
PUT_DEFINITION = _operation(
    "definitions",
    "Store a definition",
    {
        200: _answer("The newest version is the same.", "StoredVersion", examples.STORED_VERSION),
        201: _answer(
            "It is a new version.",
            "StoredVersion",
            examples.STORED_VERSION,
            {"Location": "The path of the version."},
        ),
    },
    (400, 404, 408, 413, 415, 422, 503),
    requestBody=_body(wrapped="SubmittedFlow", bare="FlowDefinition"),
    parameters=[_FLOW_ID],
)
GET_DEFINITION = _operation(
    "definitions",
    "Look at a stored definition",
    {200: _answer("A version of it.", "StoredDefinition", examples.STORED_DEFINITION)},
    (404, 422, 503),
    parameters=[_FLOW_ID],
)
DELETE_DEFINITION = _operation(
    "definitions",
    "Delete a stored definition",
    {204: {"description": "No run can be started of it any more; those that run go on."}},
    (400, 404, 408, 413, 415, 422, 503),
    parameters=[_FLOW_ID],
)
LIST_DEFINITIONS = _operation(
    "definitions",
    "List stored definitions",
    {200: _answer("The newest version of each.", "DefinitionPage", examples.DEFINITION_PAGE)},
    (422, 503),
)
LIST_VERSIONS = _operation(
    "definitions",
    "List the versions of a stored definition",
    {200: _answer("The newest first.", "VersionPage", examples.VERSION_PAGE)},
    (404, 422, 503),
    parameters=[_FLOW_ID],
)
LIST_TASK_TYPES = _operation(
    "workers",
    "List the registered task types",
    {200: _answer("The task types.", "TaskTypeList", examples.TASK_TYPES)},
    (503,),
)
LIST_WORKERS = _operation(
    "workers",
    "List the workers",
    {200: _answer("The workers, the newest first.", "WorkerList", examples.WORKERS)},
    (422, 503),
)
STATS = _operation(
    "workers",
    "Counts, queue depth, throughput and latencies",
    {200: _answer("The figures.", "Stats", examples.STATS)},
    (503,),
)
LIST_WEBHOOKS = _operation(
    "webhooks",
    "List deliveries of webhooks",
    {200: _answer("A page of deliveries, the newest first.", "WebhookPage", examples.WEBHOOKS)},
    (422, 503),
)
LIVE = _operation(
    "health",
    "Whether the process answers",
    {200: _answer("It does.", "Alive", {"status": "alive"})},
    (),
)
READY = _operation(
    "health",
    "Whether runs can be accepted",
    {200: _answer("They can.", "Ready", examples.READY)},
    (503,),
)
