"""Simulates one run: the rules of the engine, with somebody else's answers for tasks.

A generator without any input or output: it yields each :class:`Attempt` and is sent the
:class:`Answer`. Whoever drives it may answer from a table, or really run the task. Time is
virtual: waits, delays and timeouts are places in an agenda, and nothing ever waits.

What runs at the same moment goes on in the order in which it began, so the same answers always
give the same run.
"""

from collections.abc import Generator

import orjson

from shared.collecting import collect_items
from shared.definition import allowed_failures
from shared.errors import ExpressionError
from shared.evaluation import applies_in, encode, list_items, render_output
from shared.expressions.budget import Json
from shared.flow import Flow
from shared.judging import delay_before_next
from shared.routing import Applies
from shared.simulation.agenda import Agenda, Event
from shared.simulation.answers import broken_off, is_success, outcome_of, result_of, timed_out
from shared.simulation.branches import Branches, Change
from shared.simulation.ending import EndingBranch
from shared.simulation.questions import Questions
from shared.simulation.recall import Memory, Recall
from shared.simulation.spending import Spending
from shared.simulation.values import (
    Answer,
    Attempt,
    SentSignal,
    SimulatedRun,
    SimulatedTaskRun,
    Start,
)
from shared.simulation.visits import Visit
from shared.status import Outcome, Reason, RunStatus, TaskRunStatus
from shared.undoing import Ending, Told

Steps = Generator[Attempt, Answer, SimulatedRun]


def simulate_run(flow: Flow, start: Start) -> Steps:
    """Run ``flow``: yields attempts, is sent their answers, and returns the run.

    Raises:
        LimitExceeded: it goes further than its bounds.
    """
    return _Run(flow, start).steps()


class _Run:
    def __init__(self, flow: Flow, start: Start) -> None:
        self._flow = flow
        self._start = start
        self._recall = Recall(flow, everything=start.remembers_all)
        self._branches: Branches[Memory] = Branches(flow, self._recall.join)
        self._visits: dict[int, Visit] = {}
        """The open visits of branches, by the branch's number."""
        self._agenda = Agenda(start.at)
        self._spent = Spending(start.bounds)
        self._begun = 0
        """Task runs, those included that are about to begin."""
        self._task_runs: list[SimulatedTaskRun] = []
        self._assumed: dict[str, None] = {}
        self._deadline = flow.definition.timeout
        undoing = flow.undoing
        self._ending = None if undoing is None else EndingBranch(undoing, start.at)
        self._questions = Questions(flow, start, self._agenda, self._ending)
        self._status = RunStatus.RUNNING
        self._outcome: Outcome | None = None
        self._output: bytes | None = None
        self._error: Json = None

    # The agenda.

    def steps(self) -> Steps:
        """Go through the run."""
        self._follow(self._branches.start(Memory()))
        while self._status is RunStatus.RUNNING:
            event = self._agenda.next(self._deadline)
            if event is None and self._deadline is None:
                # What is left waits for what never comes.
                break
            if event is None:
                self._pass_deadline()
            elif event.answer is not None:
                self._receive(event.visit, event.answer)
            else:
                yield from self._attempt(event)
        return self._told()

    def _follow(self, change: Change[Memory]) -> None:
        for branch, reason in change.stopped:
            # One that has only just been begun has no visit yet.
            visit = self._visits.pop(branch.number, None)
            if visit is not None:
                visit.stop(reason, self._agenda.now)
        for branch in change.begun:
            visit = self._visits[branch.number] = Visit(branch, branch.path)
            self._begun += 1
            self._agenda.put(visit)

    def _told(self) -> SimulatedRun:
        return SimulatedRun(
            flow_id=self._flow.definition.id,
            input=self._start.input,
            status=self._status,
            outcome=self._outcome,
            content=self._output,
            error=self._error,
            task_runs=tuple(self._task_runs),
            seconds=self._agenda.now,
            assumed=tuple(self._assumed),
        )

    # One attempt.

    def _attempt(self, event: Event) -> Generator[Attempt, Answer, None]:
        visit = event.visit
        task = self._flow.tasks[visit.task]
        self._start.check()
        self._spent.attempt()
        if not event.is_wake:
            visit.open(task.task_type, self._agenda.now, self._task_runs)
        if task.for_each is not None and visit.parent is None:
            self._begin_items(visit)
            return
        try:
            asked = self._questions.attempt(event)
            if asked.params is not None:
                visit.task_run.params_content = encode(asked.params, "params")
        except ExpressionError as error:
            self._receive(visit, broken_off(error))
            return
        self._spent.content(visit.task_run.params_content)
        answer = yield asked
        self._spent.content(answer.content)
        if answer.is_assumed:
            self._assumed[visit.task] = None
        if task.timeout is not None and answer.seconds > task.timeout:
            answer = timed_out(task.timeout)
        self._agenda.put(visit, answer, delay=answer.seconds)

    # What it comes to.

    def _receive(self, visit: Visit, answer: Answer) -> None:
        match answer.kind:
            case "suspended":
                self._suspend(visit, answer)
            case "finish" if visit.parent is None and not visit.is_ending:
                self._finish(visit, answer)
            case "failure" | "error" as kind:
                delay = delay_before_next(
                    self._flow.tasks[visit.task],
                    kind,
                    answer.reason,
                    failed_attempts=visit.failed_attempts + 1,
                    elapsed_seconds=self._agenda.now - visit.began_seconds,
                    # The longest of the delays that may be drawn.
                    draw=1.0,
                )
                if delay is None:
                    self._end(visit, answer)
                else:
                    self._try_again(visit, answer, delay)
            case _:
                self._end(visit, answer)

    def _suspend(self, visit: Visit, answer: Answer) -> None:
        visit.task_run.status = TaskRunStatus.WAITING
        if answer.signal is not None:
            if answer.signal in self._start.signals:
                sent = SentSignal(answer.signal, self._start.signals[answer.signal])
                self._agenda.put(visit, is_wake=True, signal=sent)
                return
            visit.task_run.waits_for = answer.signal
        if answer.wake_at is not None:
            delay = self._agenda.seconds_at(answer.wake_at) - self._agenda.now
            self._agenda.put(visit, delay=delay, is_wake=True)

    def _try_again(self, visit: Visit, answer: Answer, delay: float) -> None:
        visit.close(answer, self._agenda.now)
        visit.failed_attempts += 1
        self._agenda.put(visit, delay=delay)
        if not visit.is_ending:
            self._begun += 1
            self._close_run(visit)

    def _close(self, visit: Visit, answer: Answer) -> None:
        visit.close(answer, self._agenda.now)
        if self._ending is not None and is_success(answer):
            self._ending.note(visit)

    def _end(self, visit: Visit, answer: Answer) -> None:
        if visit.is_ending:
            self._go_on_ending(visit, answer)
        elif visit.parent is not None:
            self._end_item(visit, visit.parent, answer)
        else:
            self._move(visit, answer)

    def _move(self, visit: Visit, answer: Answer) -> None:
        """Go where the conditions lead."""
        task, memory, decider = visit.task, visit.branch.carried, self._flow.decider
        applies: Applies | None = None
        if decider.asks(task):
            known = self._recall.after(memory, task, result_of(answer, visit.branch.iteration))
            applies = self._checked(
                applies_in(self._flow, task, self._questions.scope(visit, known))
            )
        try:
            targets = decider.choose(task, outcome_of(answer), applies)
        except ExpressionError as error:
            answer = broken_off(error, answer)
            # Where that leads must not depend on what cannot be evaluated.
            targets = decider.choose(task, Outcome.ERROR, lambda _: False)
        self._close(visit, answer)
        del self._visits[visit.branch.number]
        result = self._recall.last[task] = result_of(answer, visit.branch.iteration)
        if targets is None:
            raised = answer.error or {}
            self._fail(
                task, raised.get("type"), raised.get("message"), None, raised.get("traceback")
            )
            return
        known = self._recall.after(memory, task, result)
        cancels = [name for name in answer.cancels if name in self._flow.tasks]
        self._follow(self._branches.move(visit.branch, outcome_of(answer), targets, known, cancels))
        self._close_run(visit)

    def _checked(self, applies: Applies) -> Applies:
        """The same, but that it can be ended between two conditions."""

        def asked(number: int) -> bool:
            self._start.check()
            return applies(number)

        return asked

    # Lists.

    def _begin_items(self, visit: Visit) -> None:
        try:
            scope = self._questions.scope(visit, visit.branch.carried)
            items = list_items(self._flow, visit.task, scope, self._start.bounds.max_items)
        except ExpressionError as error:
            self._move(visit, broken_off(error))
            return
        if not items:
            self._move(visit, Answer("success", b"[]"))
            return
        visit.task_run.status = TaskRunStatus.WAITING
        self._spent.announce(len(items))
        at_once = self._flow.tasks[visit.task].concurrency or len(items)
        self._begun += len(items)
        for item in visit.split(items, at_once):
            self._agenda.put(item)
        self._close_run(visit)

    def _end_item(self, item: Visit, parent: Visit, answer: Answer) -> None:
        self._close(item, answer)
        task = self._flow.tasks[parent.task]
        parent.end_item(item, answer)
        total = len(parent.items)
        if parent.items_failed > allowed_failures(task.tolerate, total):
            parent.stop_items(
                f"{Reason.SIBLING_FAILED}:{parent.task}[{item.index}]", self._agenda.now
            )
        elif parent.items_left:
            if parent.held_back:
                self._agenda.put(parent.held_back.popleft())
            return
        found = collect_items(
            parent.collected(),
            count=total,
            failed=parent.items_failed,
            tolerate=task.tolerate,
        )
        self._spent.content(found.data)
        error = None if found.error is None else orjson.loads(found.error)
        self._move(parent, Answer(found.kind, found.data, error, found.reason))

    # The end of the run.

    def _close_run(self, visit: Visit) -> None:
        """End the run where it is over: by a join, by its limit, or by its last branch."""
        limit = self._flow.definition.max_task_runs
        unmet = self._branches.unmet
        if unmet is not None:
            message = f"too few branches came to {unmet!r}, and nobody else can"
            self._fail(unmet, "JoinUnmet", message)
        elif self._flow.is_counted and self._begun > limit:
            message = f"the run passed its limit of {limit} task runs (max_task_runs)"
            self._fail(visit.task, "TaskRunLimit", message, Reason.LIMIT_PASSED)
        elif self._branches.are_over:
            self._branches.check_books()
            self._complete(visit)

    def _finish(self, visit: Visit, answer: Answer) -> None:
        self._close(visit, answer)
        self._recall.last[visit.task] = result_of(answer, visit.branch.iteration)
        self._stop_all(f"{Reason.RUN_FINISHED}:{visit.task}")
        self._complete(visit)

    def _complete(self, last: Visit) -> None:
        output = last.task_run.content
        if self._flow.data.output is not None:
            scope = self._questions.scope(None, Memory(self._recall.last))
            try:
                output = render_output(self._flow, scope)
            except ExpressionError as error:
                self._fail(None, "ExpressionError", error.message, Reason.EXPRESSION_FAILED)
                return
            self._spent.content(output)
        self._output = output
        outcome = Outcome.FAILURE if self._branches.failed else Outcome.SUCCESS
        self._conclude(Ending(RunStatus.COMPLETED, outcome))

    def _fail(
        self,
        task: str | None,
        kind: str | None,
        message: str | None,
        reason: str | None = None,
        traceback: str | None = None,
    ) -> None:
        self._stop_all(reason or f"{Reason.SIBLING_FAILED}:{task}")
        error: Told = {"task": task, "type": kind, "message": message, "traceback": traceback}
        self._conclude(Ending(RunStatus.FAILED, Outcome.FAILURE, error))

    def _pass_deadline(self) -> None:
        assert self._deadline is not None
        self._agenda.now = self._deadline
        message = "the run was not over within its timeout"
        self._fail(None, "RunTimeout", message, Reason.RUN_TIMED_OUT)

    def _conclude(self, ending: Ending) -> None:
        """End the run, or begin with what it does before it is over."""
        if self._ending is None:
            self._write_final(ending)
            return
        # Nothing cuts an ending short.
        self._deadline = None
        self._ending.begin(ending)
        self._begin_next()

    def _go_on_ending(self, visit: Visit, answer: Answer) -> None:
        visit.close(answer, self._agenda.now)
        self._recall.last[visit.task] = result_of(answer, visit.branch.iteration)
        assert self._ending is not None
        self._ending.end(visit, answer)
        self._begin_next()

    def _begin_next(self) -> None:
        assert self._ending is not None
        visit = self._ending.next(self._recall.last)
        if visit is not None:
            self._agenda.put(visit)
        elif self._ending.ending is not None:
            self._write_final(self._ending.ending.concluded())

    def _write_final(self, ending: Ending) -> None:
        self._status, self._outcome, self._error = ending.status, ending.outcome, ending.error
        if ending.status is not RunStatus.COMPLETED:
            self._output = None

    def _stop_all(self, reason: str) -> None:
        for visit in self._visits.values():
            visit.stop(reason, self._agenda.now)
        self._visits.clear()
