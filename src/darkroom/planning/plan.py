"""Predict what ``dvc repro`` would do: an action for every stage, and the reasons for it.

The rules are those of ``dvc repro --pull`` if there is a remote, and of ``dvc repro`` if there is none
(dvc/repo/reproduce.py, dvc/stage/__init__.py). What a stage that runs will write is unknown. A stage
that reads it runs too, unless the new outputs are the same bytes as the old.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from darkroom.errors import listed
from darkroom.planning.dvc_view import DvcView, Item, Step, md5_in, part_of
from darkroom.planning.reasons import code_reason, data_reason, param_reasons
from darkroom.tracking.ledger.dvc_hash import listing_md5

Action = Literal["run", "cached", "pull", "unchanged"]
"""The command runs; DVC takes the outputs from its cache on this machine; from the remote; nothing."""


@dataclass(frozen=True)
class PlannedStage:
    """What happens to one stage."""

    stage: str
    action: Action
    reasons: list[str]
    certain: bool = True
    """Whether nothing can change the action; false if it depends on what an earlier stage will write."""
    seconds: float | None = None
    """Estimated duration if the command runs; None if unknown."""
    estimate: str = ""
    """What the duration is estimated from, or why it is unknown."""


@dataclass(frozen=True)
class Plan:
    """What happens to every stage, in the order of ``dvc repro``."""

    stages: list[PlannedStage]
    remarks: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether the command of a stage runs."""
        return any(one.action == "run" for one in self.stages)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(view: DvcView) -> Plan:
    """Return the plan of all stages of dvc.yaml."""
    planner = _Planner(view)
    stages = [planner.stage(step) for step in view.steps if planner.is_stage(step)]
    if view.trouble:
        planner.remarks.append(
            f"the remote cannot be asked ({view.trouble}): this plan supposes that it has nothing"
        )
    return Plan(stages, planner.remarks)


class _Planner:
    def __init__(self, view: DvcView) -> None:
        self._view = view
        self._writers: dict[str, tuple[Step, Item]] = {}
        """By path of an output: the step that writes it."""
        self._expected: dict[str, str | None] = {}
        """By path of an output: its MD5 when its step is done; None if that is unknown."""
        self.remarks: list[str] = []

    def is_stage(self, step: Step) -> bool:
        """Return whether the step is a stage of dvc.yaml; note the outputs of one that is not."""
        if step.has_command:
            return True
        for out in step.outs:
            now = self._view.md5_now(out)
            self._note(step, out, now or out.recorded)
            if now is None and out.recorded:
                self._remark_absent(out)
        return False

    def stage(self, step: Step) -> PlannedStage:
        """Return what happens to a stage, after all stages on which it depends."""
        deps, changed, waits_for = self._deps(step)
        reasons = self._own_reasons(step) + changed
        if waits_for:
            self._note_unknown(step)
            reasons += self._waiting(waits_for, bool(reasons) or self._lacks(step) != "")
            return PlannedStage(step.name, "run", reasons, certain=step.runs_always)
        if not reasons:
            lacking = self._lacks(step)
            if not lacking:
                for out in step.outs:
                    self._note(step, out, out.recorded)
                return PlannedStage(step.name, "unchanged", [])
            reasons = [lacking]
            if (kept := self._kept(step)) and (action := self._source(kept)):
                return self._restored(
                    step, action, reasons, {out.path: out.recorded for out in step.outs}
                )
        elif step.uses_run_cache and not step.runs_always and len(deps) == len(step.deps):
            for look_up in (self._view.run_cache, self._view.remote_run_cache):
                if (outs := look_up(step, deps)) and (action := self._source(outs)):
                    return self._restored(step, action, reasons, outs)
        self._note_unknown(step)
        return PlannedStage(step.name, "run", reasons)

    def _deps(self, step: Step) -> tuple[dict[str, str], list[str], list[str]]:
        """Return the known MD5 of each dep, reasons of those that changed, and stages that run before.

        A frozen stage has neither reasons nor stages that run before.
        """
        known: dict[str, str] = {}
        changed: dict[str, str] = {}
        reasons: list[str] = []
        waits_for: dict[str, None] = {}
        for dep in step.deps:
            writer, md5 = self._dep_md5(dep)
            if md5 is None and writer is not None:
                waits_for[writer.name] = None
                continue
            if md5 is None and dep.recorded:  # not here: taken as recorded, as by --allow-missing
                md5 = dep.recorded
                self._remark_absent(dep)
            if md5 is None:
                reasons.append(f"{dep.path} does not exist")
                continue
            known[dep.path] = md5
            if dep.recorded and md5 != dep.recorded:
                changed[dep.path] = self._data_reason(dep, md5, writer)
        if step.is_frozen:
            return known, [], []
        if any(dep.recorded for dep in step.deps):
            code = [path for path in changed if _is_code(path)]
            reasons += [code_reason(code)] if code else []
            reasons += dict.fromkeys(changed[path] for path in changed if path not in code)
            new = [dep.path for dep in step.deps if dep.path in known and not dep.recorded]
            reasons += [f"new in its deps: {listed(new, 3)}"] if new else []
        return known, reasons, list(waits_for)

    def _dep_md5(self, dep: Item) -> tuple[Step | None, str | None]:
        """Return the step that writes a dep, and the dep's MD5 when that step is done, if known."""
        path = PurePosixPath(dep.path)
        outer = next((f"{p}" for p in (path, *path.parents) if f"{p}" in self._writers), None)
        if outer is None:
            inner = [name for name in self._writers if PurePosixPath(name).is_relative_to(path)]
            waiting = next((name for name in inner if self._expected[name] is None), None)
            writer = self._writers[waiting][0] if waiting else None
            return writer, None if waiting else self._view.md5_now(dep)
        step, out = self._writers[outer]
        expected = self._expected[outer]
        if expected is None or outer == dep.path:
            return step, expected
        if self._view.md5_now(out) == expected:
            return step, self._view.md5_now(dep)
        listing = self._view.listing(expected)
        inside = f"{path.relative_to(outer)}"
        if listing is None:  # of a result in the remote, or taken as recorded
            return step, dep.recorded if expected == out.recorded else None
        return step, md5_in(listing, inside)

    def _own_reasons(self, step: Step) -> list[str]:
        """Return the reasons that are neither in deps nor in outputs."""
        if step.runs_always:
            return ["it runs every time"]
        if not any(item.recorded for item in [*step.deps, *step.outs]):
            return ["it has not run yet: dvc.lock has no entry for it"]
        reasons = ["its command in dvc.yaml changed"] if step.is_command_changed else []
        if not step.is_frozen:
            reasons += param_reasons(step.recorded_params, step.params)
        return reasons

    def _lacks(self, step: Step) -> str:
        """Return what is wrong with the outputs; an empty string if nothing is."""
        states: dict[str, list[str]] = {}
        for out in step.outs:
            if state := self._state(out):
                states.setdefault(state, []).append(out.path)
        return "; ".join(f"{state}: {listed(paths, 3)}" for state, paths in states.items())

    def _state(self, out: Item) -> str:
        now = self._view.md5_now(out)
        if out.recorded is None:
            return "not in dvc.lock"
        if now is None:
            return "missing here"
        if now != out.recorded:
            return "changed since it ran"
        if out.is_cached and not self._view.holds(out.recorded):
            return "missing in DVC's cache"
        return ""

    def _kept(self, step: Step) -> dict[str, str]:
        """Return the recorded outputs that must be found to restore them; none if DVC does not try.

        ``dvc repro --pull`` gets outputs that are missing, and ``dvc checkout`` those of a commit. Those
        that were changed, and any without a remote, come from the run cache, which needs all of them.
        """
        recorded = {out.path: out.recorded for out in step.outs if out.recorded}
        if len(recorded) < len(step.outs):
            return {}
        now = {out.path: self._view.md5_now(out) for out in step.outs}
        gets_missing = self._view.has_remote or self._view.is_commit
        if gets_missing and all(now[path] in (None, md5) for path, md5 in recorded.items()):
            return {out.path: recorded[out.path] for out in step.outs if out.is_cached}
        return recorded if step.uses_run_cache else {}

    def _source(self, outs: dict[str, str]) -> Action | None:
        """Return where outputs can be restored from: ``cached`` or ``pull``; None if nowhere."""
        missing = [md5 for md5 in outs.values() if not self._view.holds(md5)]
        if not missing:
            return "cached"
        return "pull" if all(map(self._view.remote_holds, missing)) else None

    def _restored(
        self, step: Step, action: Action, reasons: list[str], outs: Mapping[str, str | None]
    ) -> PlannedStage:
        for out in step.outs:
            self._note(step, out, outs.get(out.path))
        return PlannedStage(step.name, action, reasons)

    def _note(self, step: Step, out: Item, md5: str | None) -> None:
        self._writers[out.path] = step, out
        self._expected[out.path] = md5

    def _note_unknown(self, step: Step) -> None:
        for out in step.outs:
            self._note(step, out, None)

    def _waiting(self, waits_for: list[str], is_changed: bool) -> list[str]:
        many = len(waits_for) > 1
        first = f"{listed(waits_for)} {'run' if many else 'runs'} before it"
        if is_changed:
            return [first]
        return [f"{first}; unchanged if {'their' if many else 'its'} outputs stay the same"]

    def _data_reason(self, dep: Item, md5: str, writer: Step | None) -> str:
        if writer is not None and md5 != self._view.md5_now(dep):
            return f"other outputs of {writer.name}"
        old = self._recorded_listing(dep)
        return data_reason(dep.path, old, self._view.listing_now(dep) if old else None)

    def _recorded_listing(self, dep: Item) -> dict[str, str] | None:
        """Return the files of a folder when the stage last read it, if DVC's cache has the listing."""
        if dep.recorded is None:
            return None
        if (listing := self._view.listing(dep.recorded)) is not None:
            return listing
        for outer in map(str, PurePosixPath(dep.path).parents):
            if outer in self._writers and (md5 := self._writers[outer][1].recorded):
                part = part_of(
                    self._view.listing(md5) or {}, f"{PurePosixPath(dep.path).relative_to(outer)}"
                )
                if listing_md5(part) == dep.recorded:
                    return part
        return None

    def _remark_absent(self, item: Item) -> None:
        assert item.recorded is not None
        if self._source({item.path: item.recorded}) is None:
            self.remarks.append(f"{item.path} is neither here nor in DVC's cache or a remote")


def _is_code(path: str) -> bool:
    return path.startswith(("src/", "stages/"))
