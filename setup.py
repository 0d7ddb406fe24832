"""The extension modules: every `_fast/NAME.pyx`, with the C files that stand beside it as `NAME_*.c`."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FAST = Path("src/hacore/_fast")
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wsign-compare",
    "-Wno-unused-parameter",
]

modules = [
    Extension(
        f"hacore._fast.{source.stem}",
        [str(source), *sorted(str(path) for path in FAST.glob(f"{source.stem}_*.c"))],
        include_dirs=[str(FAST)],
        depends=sorted(str(path) for path in FAST.glob("*.h")),
        extra_compile_args=FLAGS,
    )
    for source in sorted(FAST.glob("*.pyx"))
]

# The generated C goes to build/, never beside the sources.
setup(
    ext_modules=cythonize(modules, build_dir="build", compiler_directives={"language_level": "3"}),
    options={"build_ext": {"parallel": True}},
)
