"""Request bodies of the OpenAPI document."""

from __future__ import annotations

from app.http.openapi import REF, Schema
from app.learners.schemas import TrainLearner

MODELS = [TrainLearner]
_EXAMPLE = {
    "name": "signs",
    "method": "hyperset",
    "encoder": "conv4",
    "dataset": "ds_01jd8m6k0v5v4q2c9y7t3n1x0z",
    "ways": {"min": 5, "max": 20},
    "shots": {"min": 1, "max": 5},
    "queries": 5,
    "steps": 2000,
    "seed": 0,
}
TRAIN: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": REF.format(model="TrainLearner")},
                "examples": {"pictures": {"value": _EXAMPLE}},
            }
        },
    },
    "responses": {
        "202": {
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Path of the job."}},
            "links": {
                **{
                    operation: {
                        "operationId": operation,
                        "parameters": {"name": "$response.body#/learner/name"},
                    }
                    for operation in ("get_learner", "delete_learner")
                },
                "get_job": {"operationId": "get_job", "parameters": {"job_id": "$response.body#/job/id"}},
            },
        }
    },
}
