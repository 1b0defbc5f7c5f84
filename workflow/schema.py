"""The JSON schema of a profile, config/schema.json, by which editors complete and check keys: python -m workflow.schema."""

from inpaint_lib import losses, models
from inpaint_lib.study import config, files


def schema():
    """The JSON schema of a profile, for editors, with the keys each architecture takes."""
    found = config.Config.model_json_schema()
    found |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "description": config.Config.__doc__}
    number = {"type": "number", "minimum": 0}
    sections = {}
    for name, objective in losses.OBJECTIVES.items():
        keys = {"widths": (models.width_names(name), {}), "loss_options": (objective.options, {}),
                "loss_weights": (("adversarial", *objective.terms), number)}  # fmt: skip
        exact = {key: {"type": "object", "properties": dict.fromkeys(names, kind), "additionalProperties": False}
                 for key, (names, kind) in keys.items()}  # fmt: skip
        exact["mask_family"] = {"enum": [*models.ARCHITECTURES[name].MASK_FAMILIES]}
        sections[name] = {"allOf": [{"$ref": "#/$defs/Model"}, {"properties": exact}]}
    found["properties"]["models"] = {"type": "object", "properties": sections, "additionalProperties": False}
    return found


if __name__ == "__main__":
    files.write_json(config.FOLDER / "schema.json", schema())
