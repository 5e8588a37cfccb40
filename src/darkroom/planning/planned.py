"""The whole plan: actions and reasons, durations, and remarks on the environment."""

from dataclasses import replace
from pathlib import Path

from darkroom.installed import installed_remark
from darkroom.params import load_params
from darkroom.paths import PARAMS
from darkroom.planning.costs import with_costs
from darkroom.planning.dvc_view import open_view
from darkroom.planning.environment import environment_remark
from darkroom.planning.plan import Plan, make_plan
from darkroom.tracking.root import project_root


def planned(rev: str | None = None) -> Plan:
    """Return the plan for the working folder, or for a git revision or experiment. Nothing is written.

    Raises:
        UserError: DVC cannot read the project, params.yaml has a mistake, or there is no such revision.
    """
    if rev is None:
        load_params(PARAMS)  # dvc repro would stop at a mistake
    root = project_root()
    with open_view(rev) as view:
        plan = with_costs(make_plan(view), view.params, root)
    remarks = filter(None, (installed_remark() if rev is None else "", environment_remark(Path())))
    return replace(plan, remarks=[*plan.remarks, *remarks])
