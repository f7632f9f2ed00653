"""The one compiled module, which is optional: where no compiler is, the installation goes on without it, and numpy does its work.

Everything else is in pyproject.toml.
"""

from setuptools import Extension, setup

KERNELS = Extension(
    "ckptkit.support._kernels",
    ["ckptkit/support/_kernels.c"],
    extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno", "-std=c11", "-g0"],
    optional=True,
)

setup(ext_modules=[KERNELS])
