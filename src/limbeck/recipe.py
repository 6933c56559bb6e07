"""`experiment=compress`: which recipe fits a teacher and its data, and what it says of batch, losses and length.

A recipe is a file of conf/recipe like an experiment's: choices and values. Its own node says which teachers it fits
(`fits`), why it was taken (`why`), which of its values follow from facts (`rules`), and what takes the place of terms
whose weights are missing (`stand_ins`). What comes of it are overrides, as a user could have typed them; they are kept
in config.yaml (`recipe.chosen`), so that a run goes on with what it began with, and whatever is typed goes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.choices import checked, composed, forget_unselected_terms, repository, task_overrides
from limbeck.errors import UserError
from limbeck.processes import decided, first_alone

GROUP, UNDECIDED = "recipe", "auto"
SETS = "loss/generator"  # the list of terms in which stand-ins take places


def adapted(config: Any, folder: Path) -> Any:
    """`config`, or, where it leaves that to teacher and data (`recipe.adapt`), the one that fits them.

    Raises: UserError if no recipe fits, teacher or data cannot be read, or a choice cannot work.
    """
    if not (config.get(GROUP) or {}).get("adapt"):
        return config

    def choose() -> list[str]:
        return _chosen_before(folder) or _chosen(config)

    overrides: list[str] = decided(choose) or choose()
    new = composed(overrides)
    first_alone(lambda: checked(new))
    return new


def _chosen_before(folder: Path) -> list[str]:
    """What a run that has begun in this folder has chosen; empty if there is none."""
    from limbeck.pipeline import saved_settings
    from limbeck.terminal import announce

    chosen = ((saved_settings(folder) or {}).get(GROUP) or {}).get("chosen") or []
    if chosen:
        announce(GROUP, f"as chosen when the run began: {' '.join(chosen)}")
    return chosen


def _chosen(config: Any) -> list[str]:
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from limbeck.importers.foreign import guesses

    teacher = instantiate(config.teacher, _convert_="all")()
    facts = teacher_facts(teacher)
    if "resolution" in guesses(teacher.history):  # the data know better
        del facts["resolution"]
    name = str(HydraConfig.get().runtime.choices.get(GROUP))
    chosen = []
    if name == UNDECIDED:
        name = fitting(recipes(), facts)
        chosen.append(f"{GROUP}={name}")
    chosen += _by_rules(composed(chosen), facts, chosen)
    data = instantiate(composed(chosen).data, _convert_="all")
    facts |= data_facts(data.open())
    chosen += _by_rules(composed(chosen), facts, chosen)
    missing = _stand_ins(composed(chosen), chosen)
    _tell(composed(chosen), name, facts, missing)
    return chosen


def teacher_facts(teacher: Any) -> dict[str, Any]:
    """What recipes may ask of a teacher."""
    from limbeck.profiling import profile

    generator, cost = teacher.generator, profile(teacher.generator)
    return {
        "family": generator.family,
        "discriminator": teacher.discriminator is not None,
        "resolution": generator.resolution,
        "num_pixels": generator.resolution**2,
        "num_channels": generator.num_channels,
        "labels": "folders" if generator.num_classes > 1 else "none",
        "num_parameters": cost.num_parameters,
        "macs": cost.macs,
    }


def data_facts(found: Any) -> dict[str, Any]:
    """What recipes may ask of the images. found: `ImageFacts`."""
    return {"num_images": found.num_images}


def recipes() -> dict[str, Any]:
    """The `recipe` node of every file of conf/recipe and of the user's own folder, as the file itself has it."""
    from omegaconf import OmegaConf

    files = repository()
    names = sorted(name for name in files.get_group_options(GROUP) if name != UNDECIDED)
    return {name: OmegaConf.to_container(files.load_config(f"{GROUP}/{name}").config[GROUP]) for name in names}


def fitting(offered: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The recipe that fits. Raises: UserError if there is none, or one that says what to do instead."""
    found = [name for name, recipe in offered.items() if fits(recipe.get("fits") or {}, facts)]
    if not found:
        known = sorted({one for recipe in offered.values() for one in (recipe.get("fits") or {}).get("family", ())})
        own = f"or put {GROUP}/{facts['family']}.yaml into a folder of your own (--config-dir)"
        raise UserError(
            f"teacher: no recipe for {facts['family']}; allowed: {', '.join(known)}; name one (recipe=NAME), {own}"
        )
    if instead := offered[found[0]].get("instead"):
        raise UserError(f"teacher: {facts['family']}: {' '.join(instead.split())}")
    return found[0]


def fits(wanted: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether each fact is among those wanted: in a list, or in a range of numbers [from, below]."""

    def inside(fact: Any, allowed: Sequence[Any]) -> bool:
        if len(allowed) == 2 and not any(isinstance(end, bool | str) for end in allowed):
            return allowed[0] <= fact < allowed[1]
        return fact in allowed

    return all(name in facts and inside(facts[name], allowed) for name, allowed in wanted.items())


def ruled(rule: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """A value that follows from a fact: `times` that, at least and at most so much, in three digits; text as it is."""
    fact = facts[rule["of"]]
    if not isinstance(fact, int | float) or not {"times", "least", "most"} & set(rule):
        return fact
    value = min(max(fact * rule.get("times", 1), rule.get("least", 0)), rule.get("most", float("inf")))
    return float(f"{value:.3g}")


def _by_rules(config: Any, facts: Mapping[str, Any], chosen: Sequence[str]) -> Iterator[str]:
    """Overrides for all rules whose facts are known and whose setting there is, but for those chosen already."""
    from omegaconf import OmegaConf

    forget_unselected_terms(config)
    done = {override.partition("=")[0] for override in chosen}
    absent = object()
    for key, rule in (config[GROUP].get("rules") or {}).items():
        there = OmegaConf.select(config, key, default=absent, throw_on_missing=False) is not absent
        if key not in done and there and rule["of"] in facts:
            value = ruled(rule, facts)
            yield f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def _stand_ins(config: Any, chosen: list[str]) -> list[str]:
    """Put stand-ins into `chosen` for terms whose weights are missing; returns what was said of each."""
    from hydra.utils import instantiate

    terms = {name: node for name, node in config.loss.generator.items() if "_target_" in node}
    typed = any(override.startswith(f"{SETS}=") for override in task_overrides())
    said = []
    for name, other in (config[GROUP].get("stand_ins") or {}).items():
        if name not in terms or typed:
            continue
        try:
            instantiate(terms[name], _convert_="all").term.check()
        except UserError as error:
            said.append(f"{other} stands in for {name} ({str(error).partition(';')[0]})")
            terms = {other if one == name else one: node for one, node in terms.items()}
    if said:
        chosen.append(f"{SETS}=[{','.join(terms)}]")
    return said


def _tell(config: Any, name: str, facts: Mapping[str, Any], missing: Sequence[str]) -> None:
    """Four lines: whose teacher, which images, which recipe and why, which training."""
    from limbeck.evaluation.figures import short
    from limbeck.terminal import announce

    judge = ", with its discriminator" if facts["discriminator"] else ""
    costs = f"{short(facts['num_parameters'])} parameters, {short(facts['macs'])} MACs"
    resize, resolution = config.data.get("resize", "none"), config.data.get("resolution")
    how = f"; other sizes are cut to a square and shrunk to {resolution} px ({resize})" if resize != "none" else ""
    terms = [one for one, node in config.loss.generator.items() if "_target_" in node]
    announce("teacher", f"{facts['family']}, {facts['num_pixels'] ** 0.5:g} px, {costs}{judge}")
    announce("data", f"{facts['num_images']:,} images{how}")
    announce(GROUP, f"{name}: {config[GROUP].get('why', 'named by hand')}")
    losses = ", ".join(terms) + "".join(f"; {line}" for line in missing)
    announce("training", f"{config.kimg:g} kimg in batches of {config.batch_size}; losses {losses}")
