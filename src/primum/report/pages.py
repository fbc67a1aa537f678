"""What every page of a report is made with: templates that escape what they are given."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from primum.errors import clean_text


def templates() -> Environment:
    """Return the templates of pages."""
    environment = Environment(
        loader=PackageLoader("primum.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean_text
    return environment
