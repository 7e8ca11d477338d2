from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.app import create_app
from gateway.http.problems import MEDIA_TYPE, REGISTRY
from gateway.settings import GatewaySettings
from gateway.submission.parsing.job import parse_submission
from gateway.submission.parsing.models import TenantModels

METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return the OpenAPI document as served."""
    return create_app(GatewaySettings(auth="off")).openapi()


def list_operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return every (path, method, operation)."""
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """Whatever reads OpenAPI 3.1 reads it."""
    validate(document)


def test_operation_ids_are_plain_and_unique(document: dict[str, Any]) -> None:
    """Generated clients get good method names."""
    ids = [operation["operationId"] for _, _, operation in list_operations(document)]

    assert len(ids) == len(set(ids))
    assert all(name.replace("_", "").isalpha() for name in ids)


def test_every_route_says_what_it_is_for(document: dict[str, Any]) -> None:
    """A summary, a description and a tag."""
    for path, method, operation in list_operations(document):
        assert operation.get("summary"), (path, method)
        assert operation.get("description"), (path, method)
        assert operation.get("tags"), (path, method)


def test_every_route_of_the_api_names_its_errors(document: dict[str, Any]) -> None:
    """401, 403, 500 and 503 everywhere a key is needed, as problem+json with an example of each code."""
    for path, method, operation in list_operations(document):
        if not path.startswith("/v1/"):
            continue
        assert {"401", "403", "500", "503"} <= operation["responses"].keys(), (path, method)
        assert operation["security"], (path, method)
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            content = response["content"][MEDIA_TYPE]
            for code, example in content["examples"].items():
                assert REGISTRY[code].status == int(status) == example["value"]["status"]


def test_no_route_promises_fastapi_s_own_validation_error(document: dict[str, Any]) -> None:
    """A 422 is a problem like every other error."""
    assert "HTTPValidationError" not in str(document)


def test_the_examples_of_a_job_are_accepted(document: dict[str, Any]) -> None:
    """The examples of the docs can be submitted."""
    for example in document["components"]["schemas"]["JobRequest"]["examples"]:
        _, documents = parse_submission(
            example, TenantModels(GatewaySettings()), lambda documents, _: list(documents)
        )
        assert documents


def test_the_fields_of_a_job_are_the_ones_that_are_read(document: dict[str, Any]) -> None:
    """The documented request and the parser do not drift apart."""
    from gateway.submission.parsing import documents, job
    from jobs.schema import Options

    schemas = document["components"]["schemas"]
    assert set(schemas["JobHead"]["properties"]) == job.HEAD_FIELDS
    assert set(schemas["JobRequest"]["properties"]) == job.HEAD_FIELDS | {"documents"}
    assert set(schemas["DocumentIn"]["properties"]) == documents._FIELDS
    assert set(schemas["OptionsIn"]["properties"]) == set(Options.model_fields)
    for name, field in Options.model_fields.items():  # the threshold's default is the model's
        assert schemas["OptionsIn"]["properties"][name].get("default") == field.default
