"""Optimizers without torch's compiler, and the compiler as soon as somebody wants it."""

from pathlib import Path

import pytest
from support import output_of, start_python

CODE = """
import inspect, sys
import torch
from support import train_options
from darkroom.training.optim import make_optimizer

def step():
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())

model = torch.nn.Linear(3, 3)
optimizer = make_optimizer(model, train_options())
step()
inspect.getmodule(step)  # looks through all modules
print("torch._dynamo.utils" in sys.modules)

compiled = torch.compile(model, backend="eager")
print(torch.equal(compiled(torch.ones(2, 3)), model(torch.ones(2, 3))))
print("torch._dynamo.utils" in sys.modules, torch._dynamo.is_compiling())
step()
"""


@pytest.mark.slow
def test_the_compiler_is_imported_only_once_something_is_compiled(tmp_path: Path) -> None:
    output = output_of(start_python(CODE, cwd=tmp_path))
    assert output.split() == ["False", "True", "True", "False"]
