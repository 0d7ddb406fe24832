"""The table that the kernels are measured with: that of `hacore bench`."""

from __future__ import annotations

from hacore.bench.realistic import kernel_table, realistic_table

__all__ = ["kernel_table", "realistic_table"]
