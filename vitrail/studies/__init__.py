"""The paper's studies: lists of runs, and what they show."""

from importlib import import_module

from vitrail.core.errors import BadInput, unknown
from vitrail.core.text import listed
from vitrail.studies.engine.runs import Scale
from vitrail.studies.engine.study import Study

# name -> its module's function of the same name, and what it asks. The only list of studies.
STUDIES = {
    "position": ("position", "Does a ViT need positions, and of which kind? (Table 8)"),
    "head": ("head", "Class token or average pooling, over learning rates (figure 9)"),
    "shape": ("shape", "Which size of a Transformer is worth its compute? (figure 8)"),
    "optimizer": ("optimizer", "Adam or SGD for the pre-training of ResNets? (Table 7)"),
    "data-size": ("data_size", "Does a Transformer need more data than a ResNet? (figures 3 and 4)"),
    "scaling": ("scaling", "How much accuracy does compute buy, by family? (figure 5, Table 6)"),
    "compute": ("compute", "Of equal compute, which size of a ViT reaches most? (section 4.4, D.2)"),
    "masked": ("masked", "What is learned without labels, and by which targets? (section 4.6)"),
    "axial": ("axial", "Is attention along rows and columns worth its compute? (figure 13)"),
    "cost": ("cost", "How fast are models, and how many images do they hold, by size? (figure 12)"),
}

MEDIUM = ("position", "head", "shape", "optimizer", "data-size", "scaling", "cost")  # the studies that have this scale


def study(name: str, scale: Scale) -> Study:
    """The study of that name at a scale; raises BadInput with the nearest name, or for a scale that it has not."""
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    if scale == "medium" and name not in MEDIUM:
        raise BadInput(f"{name} has no medium scale, only smoke, small and paper; {listed(MEDIUM)} have one")
    module = STUDIES[name][0]
    result: Study = getattr(import_module(f"vitrail.studies.{module}"), module)(scale)
    return result
