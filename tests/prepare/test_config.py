"""The block `prepare`: every key described, unknown ones named with the nearest, blocks as wide as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.prepare.config import PrepareConfig, parse_prepare
from bmi_cdlm.reference import BLOCKS, render

NETWORK = {"directions": "flow.tif"}


@pytest.mark.parametrize("model", [PrepareConfig, *(model for _, model in BLOCKS)])
def test_every_key_is_described_and_blocks_refuse_others(model: type[BaseModel]) -> None:
    for key, field in model.model_fields.items():
        assert field.description, key
        assert field.description.endswith("."), key
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"


def test_every_block_has_a_table_in_the_reference() -> None:
    text = render()
    for title, model in BLOCKS:
        assert f"### {title}\n" in text
        for key in model.model_fields:
            assert f"| `{key}` |" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"network": NETWORK, "guages": {}}, r"unknown key 'guages'. Did you mean 'gauges'\?"),
        ({"network": {"direction": "x"}}, r"unknown key 'network.direction'. Did you mean 'directions'\?"),
        ({"network": NETWORK, "gauges": {}}, "key 'gauges.table' is missing"),
        ({"network": NETWORK, "gauges": {"table": "t", "area_limit": "wide"}}, "gauges.area_limit is 'wide'"),
        ({"network": NETWORK, "attributes": {"rasters": {"clay": {"sorce": "x"}}}},
         r"'attributes.rasters.clay.source' is missing.*'attributes.rasters.clay.sorce'"),
        ({"legacy": {"table": "k", "travel_time_units": "weeks"}}, "legacy.travel_time_units is 'weeks'"),
        ({}, "neither network nor legacy is given"),
        ({"legacy": {"table": "k"}, "gauges": {"table": "t"}}, "gauges without network"),
        ({"network": NETWORK, "guages": {}, "legacy": {}}, "(?s)guages.*legacy.table|legacy.table.*guages"),
    ],
)
def test_what_is_wrong_is_said(content: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_prepare(content, Path("case.yaml"))
    assert str(caught.value).startswith("case.yaml: prepare: ")


def test_ids_of_gauges_may_be_numbers() -> None:
    config = parse_prepare({"network": NETWORK, "gauges": {"table": "t", "only": [12, "B"]}}, Path("case.yaml"))
    assert config.gauges is not None
    assert config.gauges.only == ("12", "B")
