"""MMLU-Redux 2.0: 100 questions of each of MMLU's subjects, checked by people (Gema et al., NAACL
2025). What they found fault with is not scored."""

from dataclasses import dataclass
from typing import Any

from latentwire.tasks import mmlu
from latentwire.tasks.rows import HubConfigs, RowFields
from latentwire.tasks.task import Example

_SUBJECTS = """abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology
college_chemistry college_computer_science college_mathematics college_medicine college_physics
computer_security conceptual_physics econometrics electrical_engineering elementary_mathematics
formal_logic global_facts high_school_biology high_school_chemistry high_school_computer_science
high_school_european_history high_school_geography high_school_government_and_politics
high_school_macroeconomics high_school_mathematics high_school_microeconomics high_school_physics
high_school_psychology high_school_statistics high_school_us_history high_school_world_history
human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning
management marketing medical_genetics miscellaneous moral_disputes moral_scenarios nutrition
philosophy prehistory professional_accounting professional_law professional_medicine
professional_psychology public_relations security_studies sociology us_foreign_policy virology
world_religions"""
_SOUND = "ok"


@dataclass(frozen=True)
class _Checked(mmlu.ByNumber):
    """Rows have `error_type` beside MMLU's fields."""

    def example(self, row: dict[str, Any], index: int) -> Example | None:
        fault = RowFields(row).text("error_type")
        return super().example(row, index) if fault == _SOUND else None


TASK = _Checked(
    name="mmlu_redux",
    test=HubConfigs(
        *("edinburgh-dawg/mmlu-redux-2.0", "all subjects", "test", "mmlu_redux/test.jsonl"),
        configs=tuple(_SUBJECTS.split()),
    ),
    training=mmlu.TASK.training,
)
