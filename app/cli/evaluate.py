"""`hyperserve evaluate`: one subcommand for each protocol, imported when it is invoked."""

from __future__ import annotations

import typer

from app.cli.lazy import SETTINGS, lazy_group

PROTOCOLS = {
    "omniglot": ("app.cli.evaluate_classes:omniglot", "Measure on Omniglot's test characters."),
    "omniglot-emnist": ("app.cli.evaluate_emnist:omniglot_emnist", "Measure across domains, on EMNIST."),
    "omniglot-lake": ("app.cli.evaluate_classes:omniglot_lake", "Measure on Lake's 20 runs."),
    "cifar-fs": ("app.cli.evaluate_classes:cifar_fs", "Measure on the test classes of CIFAR-FS."),
    "vectors": ("app.cli.evaluate_classes:vectors", "Measure on labelled vectors."),
    "own": ("app.cli.evaluate_own:own", "Measure on your own data, beside baselines."),
    "mann": ("app.cli.evaluate_classes:mann", "Measure on streams of examples in mixed order."),
    "sinusoid": ("app.cli.evaluate_functions:sinusoid", "Measure regression on MAML's sinusoids."),
    "regression": (
        "app.cli.evaluate_functions:regression",
        "Measure regression beside scikit-learn's Gaussian process and ridge.",
    ),
    "completion": ("app.cli.evaluate_functions:completion", "Measure the completion of pictures."),
    "compare": ("app.cli.evaluate_classes:compare", "Compare pairs of learners on Omniglot."),
    "compare-emnist": ("app.cli.evaluate_classes:compare_emnist", "Compare pairs of learners on EMNIST."),
    "bayes-by-backprop": (
        "app.cli.evaluate_bayes_by_backprop:bayes_by_backprop",
        "Train and measure a network of Gaussian weights on MNIST.",
    ),
    "continual": ("app.cli.evaluate_continual:continual", "Train and compare continual methods."),
}
"""Protocol → (where its command is, summary)."""

app = typer.Typer(
    cls=lazy_group(PROTOCOLS),
    no_args_is_help=True,
    **SETTINGS,
)


@app.callback()
def _evaluate() -> None:
    """Measure learners by a published protocol.

    Reports name the protocol, the number of tasks and the digests of learners; intervals are 95 %.
    """
