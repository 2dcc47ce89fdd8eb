"""The runs of a tale (see `tests.support.tale`): how they are started, claimed, done, interrupted and ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sessionplane.proof.history.records import Call
from sessionplane.v1 import event_pb2
from sessionplane.v1 import run_pb2 as R  # noqa: N812 - states and stages are what this is full of
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_pb2 as S  # noqa: N812
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.run_pb2 import Payload, RunSpec
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale_sessions import Chat, Sessions


@dataclass
class Work:
    """A run as the tale's server knows it."""

    run_id: str
    chat: Chat
    state: Any
    epoch: int = 0
    published: int = 0
    text: str = ""
    interrupt_id: str = ""
    stage: Any = 0
    reason: str = ""
    terminal: Event | None = None


class Runs(Sessions):
    """Callers and runners, and what a server says to them about runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, Work] = {}

    def begin(self, key: str, run_id: str, **spec: Any) -> Call:
        """Start a run whose input is its name."""
        spec.setdefault("input", Payload(text=run_id))
        request = pb.StartRunRequest(
            session=SessionRef(key=key), run=RunSpec(run_id=run_id, **spec), request_id=run_id
        )
        call = self.asked("StartRun", request, "anna")
        chat = self.held(key)
        run = self.recorded(chat, run_id, spec["input"])
        queued = run.state == R.RUN_STATE_QUEUED
        answer = pb.StartRunResponse(
            run=self.shown_run(run),
            disposition=R.RUN_DISPOSITION_QUEUED if queued else R.RUN_DISPOSITION_PENDING,
            session=self.shown(chat),
            input_id=run_id,
            resume_token=self.token(chat),
        )
        return self.answer(call, answer)

    def recorded(self, chat: Chat, run_id: str, given: Payload) -> Work:
        """Take a run into a session's line."""
        state = R.RUN_STATE_QUEUED if chat.line else R.RUN_STATE_PENDING
        run = self.runs[run_id] = Work(run_id, chat, R.RUN_STATE_UNSPECIFIED)
        chat.line.append(run_id)
        recorded = event_pb2.InputRecorded(input_id=run_id, stage=event_pb2.INPUT_STAGE_RECORDED, input=given)
        self.log(chat, run_id=run_id, input_recorded=recorded)
        self.change(run, state)
        return run

    def change(self, run: Work, state: Any) -> None:
        """Let a run change its state."""
        changed = event_pb2.RunChanged(from_state=run.state, to_state=state, lease_epoch=run.epoch)
        run.state = state
        self.log(run.chat, run_id=run.run_id, run_changed=changed)

    def shown_run(self, run: Work) -> R.Run:
        """A run as an answer shows it."""
        return R.Run(
            run_id=run.run_id,
            session_id=run.chat.session_id,
            session_key=run.chat.key,
            state=run.state,
            lease_epoch=run.epoch,
            terminal=run.terminal.run_terminal if run.terminal is not None else None,
        )

    def claim(self, run_id: str, by: str = "rita") -> Call:
        """Claim a run."""
        request = runner.ClaimRunRequest(run_id=run_id, runner_id=by, request_id=f"{by} claims {run_id}")
        call = self.asked("ClaimRun", request, by)
        run = self.runs[run_id]
        run.epoch += 1
        self.change(run, R.RUN_STATE_RUNNING)
        if run.chat.state == S.SESSION_STATE_CREATED:
            self.move(run.chat, "RUN_CLAIMED", S.SESSION_STATE_STARTING)
        return self.answer(call, self.claimed(run))

    def claimed(self, run: Work) -> runner.ClaimRunResponse:
        """The answer to a claim."""
        return runner.ClaimRunResponse(claimed=True, run=self.shown_run(run), lease=self.lease(run))

    def lease(self, run: Work) -> R.Lease:
        """A run's present lease."""
        return R.Lease(token=f"{run.run_id} lease {run.epoch}", epoch=run.epoch)

    def lapse(self, run_id: str) -> None:
        """Offer a run again whose runner was never heard."""
        self.change(self.runs[run_id], R.RUN_STATE_PENDING)

    def publish(self, run_id: str, *texts: str, by: str = "rita") -> Call:
        """Publish texts."""
        run = self.runs[run_id]
        request = runner.PublishEventsRequest(
            run_id=run_id,
            lease_token=self.lease(run).token,
            events=[runner.NewEvent(output_delta=event_pb2.OutputDelta(text=text)) for text in texts],
            first_run_sequence=run.published + 1,
        )
        call = self.asked("PublishEvents", request, by)
        self.published(run, *texts)
        return self.answer(call, self.heard(run, runner.PublishEventsResponse()))

    def published(self, run: Work, *texts: str) -> list[Event]:
        """Write what was published."""
        if run.chat.state == S.SESSION_STATE_STARTING:
            self.move(run.chat, "RUN_STARTED", S.SESSION_STATE_ACTIVE)
        written = []
        for text in texts:
            run.published += 1
            delta = event_pb2.OutputDelta(text=text, offset=len(run.text.encode()))
            written.append(
                self.log(run.chat, run_id=run.run_id, run_sequence=run.published, output_delta=delta)
            )
            run.text += text
        return written

    def heard(self, run: Work, answer: Any) -> Any:
        """What a runner is told when it was heard: its lease, and the interrupt that it has not acknowledged."""
        answer.lease.CopyFrom(self.lease(run))
        if run.stage in {R.INTERRUPT_STAGE_ACCEPTED, R.INTERRUPT_STAGE_DELIVERED}:
            answer.commands.add().interrupt.interrupt_id = run.interrupt_id
            if run.stage == R.INTERRUPT_STAGE_ACCEPTED:
                self.reach(run, R.INTERRUPT_STAGE_DELIVERED)
        if isinstance(answer, runner.PublishEventsResponse):
            answer.last_run_sequence = run.published
            answer.last_sequence = len(self.logs[run.chat.session_id])
        return answer

    def beat(self, run_id: str, by: str = "rita", *, acknowledge: bool = False) -> Call:
        """Send a sign of life, perhaps with the word that the interrupt was heard."""
        run = self.runs[run_id]
        request = runner.HeartbeatRunRequest(
            run_id=run_id,
            lease_token=self.lease(run).token,
            acknowledged_interrupt_id=run.interrupt_id if acknowledge else "",
        )
        call = self.asked("HeartbeatRun", request, by)
        if acknowledge:
            self.reach(run, R.INTERRUPT_STAGE_ACKNOWLEDGED)
        return self.answer(call, self.heard(run, runner.HeartbeatRunResponse()))

    def finish(self, run_id: str, outcome: str = "SUCCEEDED", by: str = "rita", **report: Any) -> Call:
        """Report how a run ended."""
        run = self.runs[run_id]
        number = R.RunOutcome.Value(f"RUN_OUTCOME_{outcome}")
        request = runner.FinishRunRequest(
            run_id=run_id, lease_token=self.lease(run).token, outcome=number, **report
        )
        call = self.asked("FinishRun", request, by)
        end = self.end(run, outcome, "RUNNER", report.get("output_text", run.text))
        answer = runner.FinishRunResponse(
            finish_result=R.FINISH_RESULT_RECORDED, terminal=end.run_terminal, terminal_sequence=end.sequence
        )
        return self.answer(call, answer)

    def end(self, run: Work, outcome: str, cause: str, text: str | None = None) -> Event:
        """End a run: its last state, its interrupt's outcome, its terminal; then the next one in line may begin."""
        self.change(run, R.RUN_STATE_FINISHED)
        if run.interrupt_id:
            self.reach(run, R.INTERRUPT_STAGE_COMPLETED)
        terminal = R.RunTerminal(
            outcome=R.RunOutcome.Value(f"RUN_OUTCOME_{outcome}"),
            cause=R.RunCause.Value(f"RUN_CAUSE_{cause}"),
            output_text=run.text if text is None else text,
        )
        run.terminal = self.log(run.chat, run_id=run.run_id, run_terminal=terminal)
        run.chat.line.remove(run.run_id)
        if run.chat.line and self.runs[run.chat.line[0]].state == R.RUN_STATE_QUEUED:
            self.change(self.runs[run.chat.line[0]], R.RUN_STATE_PENDING)
        return run.terminal

    def look(self, run_id: str, by: str = "anna", method: str = "GetRun") -> Call:
        """Look at a run, or wait for it."""
        asked = pb.GetRunRequest if method == "GetRun" else pb.WaitRunRequest
        call = self.asked(method, asked(run_id=run_id), by)
        run = self.runs[run_id]
        if method == "GetRun":
            return self.answer(call, pb.GetRunResponse(run=self.shown_run(run)))
        return self.answer(
            call, pb.WaitRunResponse(run=self.shown_run(run), finished=run.terminal is not None)
        )

    def reach(self, run: Work, stage: Any) -> None:
        """Bring a run's interrupt to a stage."""
        run.stage = stage
        changed = event_pb2.InterruptChanged(interrupt_id=run.interrupt_id, stage=stage, reason=run.reason)
        self.log(run.chat, run_id=run.run_id, interrupt_changed=changed)

    def interrupt(self, run_id: str, reason: str, *, force: bool = False, by: str = "otto") -> Call:
        """Interrupt a run that is under way, gracefully or by force."""
        mode = R.INTERRUPT_MODE_FORCE if force else R.INTERRUPT_MODE_GRACEFUL
        call = self.asked("Interrupt", pb.InterruptRequest(run_id=run_id, mode=mode, reason=reason), by)
        run = self.runs[run_id]
        run.interrupt_id, run.reason = f"int_{reason}", reason
        self.reach(run, R.INTERRUPT_STAGE_ACCEPTED)
        if force:
            self.end(run, "INTERRUPTED", "FORCED")
        else:
            self.change(run, R.RUN_STATE_INTERRUPTING)
        return self.answer(call, pb.InterruptResponse(interrupt=self.wish(run), run=self.shown_run(run)))

    def no_op(self, run_id: str, reason: str, by: str = "otto") -> Call:
        """Interrupt a run when there is nothing to stop."""
        call = self.asked("Interrupt", pb.InterruptRequest(run_id=run_id, reason=reason), by)
        chat = self.runs[run_id].chat
        made = R.Interrupt(
            interrupt_id=f"int_{reason}", stage=R.INTERRUPT_STAGE_NO_OP, session_id=chat.session_id
        )
        changed = event_pb2.InterruptChanged(interrupt_id=made.interrupt_id, stage=made.stage, reason=reason)
        self.log(chat, interrupt_changed=changed)
        return self.answer(call, pb.InterruptResponse(interrupt=made))

    def inject(self, run_id: str, input_id: str) -> None:
        """Send an input into a run under way."""
        self._input(self.runs[run_id].chat, run_id, input_id, event_pb2.INPUT_STAGE_RECORDED)

    def take(self, run_id: str, input_id: str) -> None:
        """Let the run's runner take an input."""
        self._input(self.runs[run_id].chat, run_id, input_id, event_pb2.INPUT_STAGE_TAKEN)

    def give_back(self, input_id: str) -> None:
        """Make an input that nobody took the run that it would have started."""
        chat = next(iter(self.chats.values()))
        run = self.runs[input_id] = Work(input_id, chat, R.RUN_STATE_UNSPECIFIED)
        chat.line.append(input_id)
        self._input(chat, input_id, input_id, event_pb2.INPUT_STAGE_QUEUED)
        self.change(run, R.RUN_STATE_QUEUED)

    def _input(self, chat: Chat, run_id: str, input_id: str, stage: Any) -> None:
        recorded = event_pb2.InputRecorded(input_id=input_id, stage=stage)
        self.log(chat, run_id=run_id, input_recorded=recorded)

    def wish(self, run: Work) -> R.Interrupt:
        """A run's interrupt as an answer shows it."""
        return R.Interrupt(
            interrupt_id=run.interrupt_id, run_id=run.run_id, stage=run.stage, session_id=run.chat.session_id
        )

    def look_at_interrupt(self, run_id: str, by: str = "otto") -> Call:
        """Ask how far a run's interrupt has come."""
        run = self.runs[run_id]
        call = self.asked("GetInterrupt", pb.GetInterruptRequest(interrupt_id=run.interrupt_id), by)
        return self.answer(call, pb.GetInterruptResponse(interrupt=self.wish(run)))
