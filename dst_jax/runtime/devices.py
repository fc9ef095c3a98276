"""The only file that knows devices: the mesh, where arrays go, how a step program is compiled.

`jit` over a mesh is the default: arrays are global, the result does not depend on the number of
devices, and BatchNorm sees the global batch. `pmap` runs the same step once per device, with
BatchNorm over the device's own rows, as older pmap and DistributedDataParallel code has it.
Called by `training` and `robustness`; nothing else imports `jax.sharding`.
"""

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dst_jax.errors import UserError

Tree = Any
_DATA = "data"


@dataclasses.dataclass(frozen=True)
class Axis:
    """What a step program may ask about the devices it runs on.

    Attributes:
      count: number of parts that the global batch is split into by hand: 1 under `jit`, where the
        compiler splits it, and the number of devices under `pmap`.
      mesh: the mesh under `jit`, None under `pmap`.
    """

    count: int
    mesh: jax.sharding.Mesh | None

    @property
    def shard(self) -> tuple[Any, int]:
        """(index, count): which rows of the global batch this program instance draws."""
        return (0 if self.mesh else jax.lax.axis_index(_DATA), self.count)

    def mean(self, tree: Tree) -> Tree:
        """Averages over the instances of the program."""
        return tree if self.mesh else jax.lax.pmean(tree, _DATA)

    def sum(self, tree: Tree) -> Tree:
        """Sums over the instances of the program."""
        return tree if self.mesh else jax.lax.psum(tree, _DATA)

    def split(self, batch: Tree) -> Tree:
        """Tells the compiler to lay the rows of a global batch over the devices."""
        if self.mesh is None:
            return batch
        rows = NamedSharding(self.mesh, PartitionSpec(_DATA))
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, rows), batch)


class Devices:
    """All devices of all processes as one row, and how programs and arrays get onto them.

    Args:
      parallelism: "jit" or "pmap".
      devices: the devices; None: all.
    """

    def __init__(self, parallelism: str = "jit", devices: Sequence[jax.Device] | None = None):
        self.devices = list(jax.devices() if devices is None else devices)
        self.count = len(self.devices)
        # Auto axes: linen's Dropout fails under the Explicit axes that make_mesh builds by default.
        self.mesh = jax.make_mesh(
            (self.count,), (_DATA,), axis_types=(AxisType.Auto,), devices=self.devices
        )
        self._local_count = len(self.mesh.local_devices)
        self._pmap = parallelism == "pmap"
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._rows = NamedSharding(self.mesh, PartitionSpec(_DATA))

    @property
    def platform(self) -> str:
        """What the devices are: "cpu", "gpu" or "tpu"."""
        return self.devices[0].platform

    def compile(self, program: Callable[..., Tree]) -> Callable[[Tree, Tree, Tree, int], Tree]:
        """Compiles `program(states, feeds, seeds, count, axis) -> states` for these devices.

        The states that go in are donated on accelerators, which saves a copy of them; XLA:CPU runs
        a donated optimizer update slower, so there they are not.
        """
        donate = () if self.platform == "cpu" else (0,)
        if self._pmap:
            axis = Axis(self.count, None)
            return jax.pmap(
                lambda states, feeds, seeds, count: program(states, feeds, seeds, count, axis),
                axis_name=_DATA,
                in_axes=(0, 0, None, None),
                devices=self.devices,
                donate_argnums=donate,
            )
        axis = Axis(1, self.mesh)
        return jax.jit(
            lambda states, feeds, seeds, count: program(states, feeds, seeds, count, axis),
            out_shardings=self._replicated,
            donate_argnums=donate,
        )

    def map_rows(
        self, program: Callable[[Tree, Tree], Tree], *, everywhere: bool = False
    ) -> Callable[[Tree, Tree], Tree]:
        """Compiles `program(shared, rows) -> rows` so that each device runs it on its own rows.

        Every device runs the very program that one device alone would run on so many rows: what
        comes out of a row does not depend on the number of devices, bit by bit.

        Args:
          program: pure. `shared` is whole on every device; the leaves of `rows` and of the result
            are split over the devices along their first axis, as `shard_rows` lays them.
          everywhere: whether the result is put whole on every device, so that all processes can
            read it.
        """
        by_rows = PartitionSpec(_DATA)
        mapped = jax.shard_map(
            program,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), by_rows),
            out_specs=by_rows,
            check_vma=False,  # a program given by a user need not say how its values vary
        )
        return jax.jit(mapped, out_shardings=self._replicated if everywhere else self._rows)

    @property
    def bytes_for_data(self) -> int:
        """How many bytes of data may stay on the devices: a quarter of their memory."""
        here = self.mesh.local_devices  # no process may ask another's devices
        limits = [(device.memory_stats() or {}).get("bytes_limit") for device in here]
        known = [limit for limit in limits if limit]
        if len(known) == len(limits):
            return sum(known) // 4
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4

    def replicate(self, tree: Tree) -> Tree:
        """Puts a copy of every leaf on every device; under `pmap` with a leading device axis."""
        if self._pmap:
            return jax.tree.map(self._stack, tree)
        return self.replicate_global(tree)

    def replicate_global(self, tree: Tree) -> Tree:
        """Puts a copy of every leaf on every device, without a device axis in either mode."""

        def put(leaf: Any) -> jax.Array:
            host = np.asarray(leaf)
            return jax.make_array_from_process_local_data(self._replicated, host, host.shape)

        return jax.tree.map(put, tree)

    def _stack(self, leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        local = np.broadcast_to(host, (self._local_count, *host.shape))
        return jax.make_array_from_process_local_data(self._rows, local)

    def shard(self, tree: Tree) -> Tree:
        """Lays this process's rows over its devices; together they are the global batch."""

        def put(leaf: Any) -> jax.Array:
            host = np.asarray(leaf)
            if self._pmap:
                host = host.reshape(self._local_count, -1, *host.shape[1:])
            return jax.make_array_from_process_local_data(self._rows, host)

        return jax.tree.map(put, tree)

    def shard_rows(self, tree: Tree) -> Tree:
        """Lays global rows that every process holds whole over the devices, in either mode."""

        def put(leaf: Any) -> jax.Array:
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, self._rows, lambda index: host[index])

        return jax.tree.map(put, tree)

    def canonical(self, state: Tree) -> Tree:
        """The state without a device axis: what is saved, read and compared in either mode."""
        if not self._pmap:
            return state
        return self.replicate_global(
            jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], state)
        )

    def abstract(self, tree: Tree) -> Tree:
        """Shapes of a canonical state with the sharding that a restored one shall have."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated),
            tree,
        )


def connect(multihost: str) -> None:
    """Joins the processes of one run; call it before anything touches a device.

    Args:
      multihost: "": one process; "auto": what JAX detects (TPU pods, Slurm, MPI, Kubernetes); or
        "HOST:PORT,PROCESSES,INDEX" of process 0, the number of processes, and this one.

    Raises:
      UserError: it is none of those, or no cluster was detected.
    """
    if not multihost:
        return
    try:
        if multihost == "auto":
            jax.distributed.initialize()
        else:
            address, processes, index = multihost.split(",")
            jax.distributed.initialize(address, int(processes), int(index))
    except ValueError as error:
        raise UserError(
            "--multihost", f"{multihost} ({error})", "auto, or HOST:PORT,PROCESSES,INDEX"
        ) from None


def any_process(flag: bool) -> bool:
    """Whether the flag is set in at least one process; every process must ask together."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(jnp.asarray(flag))))


def is_main_process() -> bool:
    """Whether this process writes the files and prints."""
    return jax.process_index() == 0


def hardware() -> str:
    """The devices in words, such as `8 x NVIDIA H100` or `1 x cpu (x86_64, 2 cores)`."""
    kind = jax.devices()[0].device_kind
    if kind == "cpu":
        kind = f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    return f"{jax.device_count()} x {kind}"
