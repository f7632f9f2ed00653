"""The compiled modules, which are optional: where no compiler is, the installation goes on without them, and numpy and Python do the work.

Everything else is in pyproject.toml.
"""

from setuptools import Extension, setup

FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-std=c11", "-g0"]
NAMES = ("_kernels", "_columns")

setup(
    ext_modules=[
        Extension(f"ckptkit.support.{name}", [f"ckptkit/support/{name}.c"], extra_compile_args=FLAGS, optional=True) for name in NAMES
    ]
)
