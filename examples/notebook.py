# %% [markdown]
# # From a checkpoint to ONNX
# A notebook kept as a script (`jupytext --to notebook examples/notebook.py`, or open it in VS Code): every cell below
# runs on a laptop without account and without download. `SHORT=1` in the environment makes it a test.

# %%
import os

import limbeck
from limbeck.configured import configured

short = bool(os.environ.get("SHORT"))

# %% [markdown]
# ## The teacher
# Any checkpoint that `limbeck.load` reads will do: NVIDIA's `.pkl`, rosinality's `.pt`, a diffusers folder. Here the
# StyleGAN2 of RoboHash cats that comes with the package.

# %%
teacher = configured("teacher", "robohash32")()
data = limbeck.data.robohash(kind="cats", resolution=32)
print(limbeck.profile(teacher.generator))

# %% [markdown]
# ## Prune and refine

# %%
pruned = limbeck.prune(teacher, "l1", ratio=0.7)
initialized = limbeck.initializers.svs(pruned)
print(limbeck.profile(initialized.generator))

# %% [markdown]
# ## Distil
# Settings are those of the command line: the quickstart's losses and learning rates, for fewer images.

# %%
length = {"kimg": 0.08, "distillation.decay_kimg": 0} if short else {"kimg": 20}
student = limbeck.distil(teacher, initialized, data, experiment="quickstart", **length)

# %% [markdown]
# ## Judge
# One protocol for all; the first model is what the others are compared with.

# %%
few = {"protocol.num_images": 60, "protocol.num_reference": 100, "metric": ["kid_lite0"]} if short else {}
report = limbeck.evaluate({"teacher": teacher, "pruned": pruned, "student": student}, data, protocol="quick", **few)
for row in report.rows:
    print(f"{row.name:<8} {row.num_parameters:>8,} parameters {row.latency_ms:6.2f} ms  {row.metrics}")

# %% [markdown]
# ## Look and ship
# The ONNX file is compared with the network it came from before it is kept.

# %%
images = limbeck.sample(student, 8, seed=0)
print(images.shape, images.min().item(), images.max().item())
print(configured("export", "onnx")(student, "student.onnx"))
