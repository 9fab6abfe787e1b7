"""Two example flows over a CSV file of sales: one in the class form, one in the function form.

The file has a header with the columns ``customer`` and ``amount``, and lies where all workers see it under the same
path.

::

    load ──┬──▶ clean ╌╌┐           report, the class form: the parent runs last and joins its children;
           └────────────┴──▶ stats  stats takes the cleaned amounts, or else those loaded

    read_table ──┬──▶ totals_of ──▶ write_totals ──┬──▶ summary     etl, the function form
                 └──▶ describe ╌╌╌╌ optional ╌╌╌╌╌╌┘
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FlowType, current_attempt, flow, task

# --- The class form -------------------------------------------------------------------------------------------------


class Load(BaseModel):
    """Reads one column of numbers."""

    column: str = "amount"

    class Input(BaseModel):
        path: str

    class Output(BaseModel):
        rows: list[float]

    def process(self, input_data: Input) -> Output:
        with Path(input_data.path).open(newline="", encoding="utf-8") as file:
            return self.Output(rows=[float(row[self.column]) for row in csv.DictReader(file)])


class Clean(BaseModel):
    """Takes the outliers out: what lies further outside of the middle half than ``reach`` times its width."""

    reach: float = 3.0

    class Input(BaseModel):
        rows: list[float]

    class Output(BaseModel):
        rows: list[float]

    def process(self, input_data: Input) -> Output:
        if len(input_data.rows) < 4:
            raise ValueError(f"{len(input_data.rows)} rows are too few to say which of them are outliers")
        low, _, high = quantiles(input_data.rows, n=4, method="inclusive")
        margin = self.reach * (high - low)
        return self.Output(rows=[row for row in input_data.rows if low - margin <= row <= high + margin])


class Stats(BaseModel):
    """Describes the cleaned rows; if they could not be cleaned, the loaded ones."""

    class Output(BaseModel):
        count: int
        mean: float
        median: float
        cleaned: bool

    async def process(self, input_data: Any, dependencies: DependencyData) -> Output:
        clean = await dependencies.get("clean")
        rows = (clean or await dependencies.get("load")).rows
        return self.Output(count=len(rows), mean=fmean(rows), median=median(rows), cleaned=clean is not None)


class Report(BaseModel):
    """Joins what the children found, and says what was missing."""

    class Input(BaseModel):
        path: str

    class Output(BaseModel):
        text: str
        count: int
        outliers: int | None

    def process(self, input_data: Input, dependencies: DependencyData) -> Output:
        loaded, clean, stats = dependencies["load"], dependencies["clean"], dependencies["stats"]
        text = f"{Path(input_data.path).name}: {stats.count} sales, {stats.mean:.2f} on average"
        if clean is None:
            text += f" (not cleaned: {dependencies.missing('clean')})"
        outliers = None if clean is None else len(loaded.rows) - len(clean.rows)
        return self.Output(text=text, count=stats.count, outliers=outliers)


report = Flow(processor=Report(), config=FlowConfig(name="report", flow_type=FlowType.PARALLEL))
load = Flow(processor=Load(), config=FlowConfig(name="load", retries=3, timeout=30))
clean = Flow(processor=Clean(), config=FlowConfig(name="clean"))
stats = Flow(processor=Stats(), config=FlowConfig(name="stats"))

load.register_to(report)
clean.register_to(report, required_deps=[load.process_id], optional=True)  # the report can do without it too
stats.register_to(report, required_deps=[load.process_id], optional_deps=[clean.process_id])


# --- The function form ----------------------------------------------------------------------------------------------


class Sale(BaseModel):
    customer: str
    amount: float


class Description(BaseModel):
    mean: float
    median: float


class Summary(BaseModel):
    sales: int
    best_customer: str
    totals_path: str
    description: Description | None


@task(retries=3, timeout=30, flow_type=FlowType.THREAD)
def read_table(path: str) -> list[Sale]:
    """Extract: read the sales."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [Sale.model_validate(row) for row in csv.DictReader(file)]


@task
def totals_of(sales: list[Sale]) -> dict[str, float]:
    """Transform: add up what each customer bought."""
    totals = Counter[str]()
    for sale in sales:
        totals[sale.customer] += sale.amount  # type: ignore[assignment]  # a Counter of money
    return {customer: round(total, 2) for customer, total in totals.most_common()}


@task
def describe(sales: list[Sale]) -> Description:
    """Fails if there are no sales; the summary can do without."""
    amounts = [sale.amount for sale in sales]
    return Description(mean=round(fmean(amounts), 2), median=round(median(amounts), 2))


@task(retries=3, flow_type=FlowType.THREAD)
def write_totals(path: str, totals: dict[str, float]) -> str:
    """Load: write the totals beside the table, and give where.

    An attempt may be made more than once. So the file is written under a name of its own and then put in place whole:
    however often that happens, what lies there in the end is the same.
    """
    target = Path(path).with_suffix(".totals.csv")
    draft = target.with_name(f"{target.name}.{current_attempt().run_id}")
    with draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("customer", "total"), *totals.items()])
    return str(draft.replace(target))


@task
def summary(
    sales: list[Sale], totals: dict[str, float], totals_path: str, description: Description | None = None
) -> Summary:
    """Say in short what there was."""
    best = next(iter(totals), "nobody")
    return Summary(sales=len(sales), best_customer=best, totals_path=totals_path, description=description)


@flow
def etl(path: str) -> Summary:
    """Read sales, write each customer's total, and sum up."""
    sales = read_table(path)
    totals = totals_of(sales)
    return summary(sales, totals, write_totals(path, totals), describe(sales))
