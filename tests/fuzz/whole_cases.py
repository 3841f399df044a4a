"""Whole cases that hostile ones are made from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import netCDF4
import numpy as np
from cases import write_case
from generator_cases import specify, write_attribute_domain, write_drawn_checkpoint
from toy_basin import write_toy

from bmi_cdlm import BmiCdlm


def make_cases(folder: Path) -> None:
    """Every case that some class starts from, with what it gives undamaged."""
    write_case(folder / "run", output="run.nc", snow="cemaneige")
    classic(write_case(folder / "classic", output="run.nc").parent)
    write_case(
        folder / "state", output="run.nc", restart="restart.nc", restart_every="2 d", output_at="reaches",
        forcing="caller",
    )
    write_case(folder / "state", name="save.yaml", n_steps=9, output=None, restart=None)
    component = BmiCdlm()
    component.initialize(str(folder / "state" / "save.yaml"))
    component.update()
    component.update()
    component._stepper.simulation.save(folder / "state" / "state.nc")
    (folder / "state" / "state.bytes").write_bytes(component._stepper.simulation.to_bytes())
    component.finalize()
    write_case(folder / "state", name="from.yaml", output="run.nc", initial_state="state.nc")
    _half_a_run(folder / "resume")
    config = write_case(folder / "checkpoint", parameters="c.safetensors", output="run.nc", snow="cemaneige")
    write_attribute_domain(folder / "checkpoint" / "domain.nc")
    write_drawn_checkpoint(folder / "checkpoint" / "c.safetensors", specify(config.parent / "domain.nc"))
    if importlib.util.find_spec("rasterio") is not None:
        write_toy(folder / "prepare")


def classic(folder: Path) -> None:
    """The inputs of a case as classic NetCDF."""
    for path in folder.glob("*.nc"):
        old = folder / "old"
        path.rename(old)
        with netCDF4.Dataset(old) as source, netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as target:
            source.set_auto_maskandscale(False)
            for name, dimension in source.dimensions.items():
                target.createDimension(name, dimension.size)
            target.createDimension("letters", 8)
            for name, v in source.variables.items():
                dims, kind, values = v.dimensions, v.dtype, v[...]
                if kind is str:
                    kind, dims = "S1", (*dims, "letters")
                    values = np.array([t.encode() for t in values.tolist()], "S8").view("S1").reshape(-1, 8)
                new = target.createVariable(name, kind, dims)
                new.setncatts({k: v.getncattr(k) for k in v.ncattrs() if k != "_FillValue"})
                new[...] = values
        old.unlink()


def _half_a_run(folder: Path) -> None:
    """A run that was killed after 12 of 20 steps."""
    from bmi_cdlm.run.config import load_config
    from bmi_cdlm.run.simulation import Simulation

    config = write_case(
        folder, n_steps=20, output="run.nc", restart="restart.nc", restart_every="5 d", output_at="reaches"
    )

    class Stop(BaseException):
        pass

    def stop(steps: int) -> None:
        if simulation.n_done >= 12:
            raise Stop

    simulation = Simulation(load_config(config))
    simulation.block_length = lambda *_: 3  # type: ignore[method-assign]
    try:
        simulation.run(stop)
    except Stop:
        simulation.close()
