"""Optimizers and schedules without torch's compiler, and the compiler as soon as somebody wants it."""

from pathlib import Path

import pytest
from support import output_of, start_python

CODE = """
import inspect, sys
import torch
from support import train_options
from darkroom.training.optim import MAKERS, make_optimizer
from darkroom.training.schedule import make_schedule

def step(optimizer, schedule):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    schedule.step()
    schedule.finish_epoch(1.0)
    schedule.load_state_dict(schedule.state_dict())

model = torch.nn.Linear(3, 3)
jobs = []
falls = {"warmup_fraction": None, "decay_factor": 0.5}
for name in (*MAKERS, "muon"):
    for schedule in (
        {"schedule": "one_cycle"},
        {"schedule": "cosine"},
        {"schedule": "constant", "warmup_fraction": None},
        {"schedule": "exponential", **falls},
        {"schedule": "step", "decay_epochs": 1, **falls},
        {"schedule": "multi_step", "decay_epochs": [1], **falls},
        {"schedule": "plateau", "decay_epochs": 1, **falls},
    ):
        options = train_options(optimizer=name, **schedule)
        optimizer = make_optimizer(model, options)
        jobs.append((optimizer, make_schedule(optimizer, options, 3)))
for job in jobs:
    step(*job)
print(len(jobs))
inspect.getmodule(step)  # looks through all modules
print("torch._dynamo.utils" in sys.modules)

compiled = torch.compile(model, backend="eager")
print(torch.equal(compiled(torch.ones(2, 3)), model(torch.ones(2, 3))))
print("torch._dynamo.utils" in sys.modules, torch._dynamo.is_compiling())
for job in jobs:
    step(*job)
"""


@pytest.mark.slow
def test_the_compiler_is_imported_only_once_something_is_compiled(tmp_path: Path) -> None:
    output = output_of(start_python(CODE, cwd=tmp_path))
    assert output.split() == ["49", "False", "True", "True", "False"]
