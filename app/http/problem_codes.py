"""Every problem that the server can answer with: its code, status, title and remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemCode:
    """The meaning of a code (a problem type of RFC 9457): its status, its title, and what to do about it."""

    status: int
    title: str
    text: str


PROBLEM_CODES: dict[str, ProblemCode] = {
    # The document cannot be read.
    "empty_body": ProblemCode(400, "Empty body", "Send a body; the OpenAPI document describes its form."),
    "incomplete_body": ProblemCode(
        400, "Incomplete body", "The connection ended before the whole body had arrived."
    ),
    "client_gone": ProblemCode(400, "Client gone", "The connection ended before the answer was ready."),
    "invalid_json": ProblemCode(
        400, "Not JSON", "The body breaks the JSON grammar (RFC 8259) at the given position."
    ),
    "invalid_utf8": ProblemCode(
        400, "Not UTF-8", "JSON, the query string and the names of multipart parts must be UTF-8."
    ),
    "byte_order_mark": ProblemCode(
        400, "Byte order mark", "JSON must not start with a byte order mark (RFC 8259, 8.1)."
    ),
    "duplicate_key": ProblemCode(
        400, "Duplicate key", "An object has the same key twice; which one counts is undefined."
    ),
    "not_json_number": ProblemCode(
        400, "Not a JSON number", "NaN and Infinity are not JSON; leave the field out instead."
    ),
    "number_out_of_range": ProblemCode(
        400, "Number out of range", "A number must fit into a 64-bit float or integer."
    ),
    "lone_surrogate": ProblemCode(
        400, "Lone surrogate", "An escape \\ud800-\\udfff without its pair is not text."
    ),
    "control_character": ProblemCode(
        400, "Control character", "Remove the control characters from the string."
    ),
    "too_deep": ProblemCode(
        400, "Nested too deep", "The document has more nested arrays and objects than any valid request."
    ),
    "too_many_values": ProblemCode(
        400, "Too many values", "The document has more values than any valid request."
    ),
    "invalid_gzip": ProblemCode(400, "Broken gzip", "The body is not a whole gzip file (RFC 1952)."),
    "invalid_multipart": ProblemCode(
        400, "Broken multipart", "The body breaks the multipart grammar (RFC 7578)."
    ),
    "too_many_parts": ProblemCode(413, "Too many parts", "Send fewer parts, or JSON; see /v1/limits."),
    # The request does not match a route, or the state of what it names.
    "not_found": ProblemCode(404, "Not found", "There is nothing at this address."),
    "task_not_found": ProblemCode(
        404, "No such task", "The task never existed, was deleted, or belongs to someone else."
    ),
    "version_not_found": ProblemCode(
        404, "No such version", "GET /v1/tasks/{id}/versions lists the versions of a task."
    ),
    "example_not_found": ProblemCode(
        404, "No such example", "GET /v1/tasks/{id}/support lists the examples of the current version."
    ),
    "prediction_not_found": ProblemCode(
        404,
        "No such prediction",
        "Only predictions made with store=true can be found, until their task is deleted.",
    ),
    "prediction_lapsed": ProblemCode(
        410,
        "Prediction expired",
        "The time for feedback on this prediction is over; add the input to the support set instead.",
    ),
    "idempotency_deleted": ProblemCode(
        410,
        "Created and deleted",
        "The result of the request with this Idempotency-Key was deleted; use a new key to create it again.",
    ),
    "precondition_failed": ProblemCode(
        412,
        "Changed in the meantime",
        "The ETag no longer matches If-Match; read the resource again, then decide.",
    ),
    "task_contended": ProblemCode(
        409, "Too many concurrent changes", "Other requests kept changing the task; try again."
    ),
    "dataset_not_found": ProblemCode(
        404, "No such dataset", "The dataset never existed, was deleted, or belongs to someone else."
    ),
    "dataset_in_use": ProblemCode(
        409, "Dataset in use", "A queued or running job uses the dataset; wait for the job or cancel it."
    ),
    "learner_exists": ProblemCode(
        409, "Name taken", "A learner of this name exists; choose another name, or delete that learner first."
    ),
    "learner_bundled": ProblemCode(
        409, "Bundled learner", "The learner is bundled with the server and cannot be changed."
    ),
    "learner_in_use": ProblemCode(
        409, "Learner in use", "Tasks or streams use the learner; delete them first, or use force=true."
    ),
    "learner_not_found": ProblemCode(
        404, "No such learner", "GET /v1/learners lists the learners that exist."
    ),
    "stream_not_found": ProblemCode(
        404, "No such stream", "GET /v1/streams lists your streams and the bundled ones."
    ),
    "stream_exists": ProblemCode(
        409, "Name taken", "A stream of this name exists; choose another name, or delete that stream first."
    ),
    "stream_bundled": ProblemCode(
        409,
        "Bundled stream",
        "The stream is bundled with the server and cannot be changed; create one of your own.",
    ),
    "stream_busy": ProblemCode(
        409, "Stream busy", "A queued or running job changes the stream; wait for the job or cancel it."
    ),
    "stream_empty": ProblemCode(
        409,
        "No version yet",
        "No stream task is registered; GET /v1/streams/{name}/tasks shows what is under way.",
    ),
    "stream_task_not_ready": ProblemCode(
        409,
        "Not registered yet",
        "The stream task is being registered; GET /v1/streams/{name}/tasks names its job.",
    ),
    "stream_version_not_found": ProblemCode(
        404, "No such version", "GET /v1/streams/{name}/versions lists the versions of a stream."
    ),
    "stream_task_not_found": ProblemCode(
        404, "No such stream task", "GET /v1/streams/{name}/tasks lists the tasks of a stream."
    ),
    "stream_task_exists": ProblemCode(
        409, "Already registered", "A stream task of this name is registered; choose another name."
    ),
    "stream_task_forgotten": ProblemCode(
        410, "Forgotten", "The stream task was forgotten and cannot be brought back."
    ),
    "job_not_found": ProblemCode(
        404, "No such job", "The job never existed, was dropped, or belongs to someone else."
    ),
    "job_finished": ProblemCode(
        409, "Job finished", "The job has ended already; GET /v1/jobs/{id} shows its result."
    ),
    "method_not_allowed": ProblemCode(
        405, "Method not allowed", "The Allow header lists the methods of this address."
    ),
    "idempotency_in_flight": ProblemCode(
        409,
        "Key in flight",
        "A request with this Idempotency-Key is still being answered; send yours again after Retry-After seconds.",
    ),
    "body_timeout": ProblemCode(408, "Body too slow", "The body did not arrive in time; send it again."),
    "body_too_large": ProblemCode(413, "Body too large", "Send fewer or smaller inputs; see /v1/limits."),
    "unsupported_media_type": ProblemCode(
        415, "Unsupported media type", "The detail lists the media types that this address accepts."
    ),
    "unsupported_encoding": ProblemCode(
        415, "Unsupported encoding", "Send the body as it is, or JSON and forms with Content-Encoding: gzip."
    ),
    # The request is well-formed, but invalid.
    "invalid_request": ProblemCode(422, "Invalid request", "The errors name every invalid field."),
    "missing": ProblemCode(422, "Missing field", "A required field is missing."),
    "unknown_field": ProblemCode(422, "Unknown field", "The request has no such field; check the spelling."),
    "given_twice": ProblemCode(
        422,
        "Given twice",
        "An option is given twice in the query string, or in both the query string and the body.",
    ),
    "wrong_type": ProblemCode(422, "Wrong type", "The value has another type than the field."),
    "out_of_range": ProblemCode(422, "Out of range", "The value is beyond the given limit."),
    "too_long": ProblemCode(422, "Too long", "The text has more characters than the given limit."),
    "too_short": ProblemCode(422, "Too short", "The text has fewer characters than the given limit."),
    "bad_format": ProblemCode(422, "Bad format", "The text does not have the format of this field."),
    "idempotency_mismatch": ProblemCode(
        422, "Key of another request", "Use a new Idempotency-Key for every new request."
    ),
    "bad_cursor": ProblemCode(422, "Bad cursor", "Use the next_cursor of the previous page, unchanged."),
    "invalid_label": ProblemCode(
        422, "Invalid label", "A label has 1 to 200 characters, none of them a control character."
    ),
    "duplicate_label": ProblemCode(
        422, "Duplicate label", "Two labels are equal after Unicode normalisation (NFC)."
    ),
    "reserved_name": ProblemCode(
        422, "Reserved name", "Parts named query are queries; use JSON for a class of that name."
    ),
    "empty_support": ProblemCode(
        422,
        "Empty support set",
        "A classification task needs examples of at least two classes, a regression task at least one example.",
    ),
    "option_as_part": ProblemCode(
        422,
        "Option as a part",
        "The parts of a form are examples and queries; put options into the query string, such as ?learner=photos.",
    ),
    "too_few_classes": ProblemCode(422, "Too few classes", "A support set needs at least two classes."),
    "too_many_classes": ProblemCode(422, "Too many classes", "See ways_max of /v1/limits."),
    "empty_class": ProblemCode(422, "Class without examples", "Every class needs at least one example."),
    "too_many_examples": ProblemCode(422, "Too many examples", "See support_examples of /v1/limits."),
    "no_queries": ProblemCode(422, "No queries", "Send at least one query."),
    "too_many_queries": ProblemCode(
        422, "Too many queries", "Split the queries into several requests; see queries of /v1/limits."
    ),
    "unknown_learner": ProblemCode(422, "Unknown learner", "GET /v1/learners lists the learners that exist."),
    "no_default_learner": ProblemCode(
        422, "No default learner", "The server has no default learner for this kind of input; name a learner."
    ),
    "ambiguous_input": ProblemCode(
        422, "Ambiguous input", 'Name a learner, or write {"image": ...} or {"text": ...}.'
    ),
    "unsupported_way": ProblemCode(
        422, "Unsupported number of classes", "The learner does not support this number of classes."
    ),
    "unsupported_shot": ProblemCode(
        422,
        "Unsupported number of examples",
        "The learner does not support this number of examples per class.",
    ),
    "unsupported_support": ProblemCode(
        422, "Unsupported support set", "The learner cannot adapt to this support set."
    ),
    "wrong_task_kind": ProblemCode(
        422,
        "Wrong kind of task",
        "Labels make classification tasks and targets make regression tasks; a learner supports one of the two.",
    ),
    "target_length": ProblemCode(
        422, "Wrong target length", "All targets of a task have the same length, which the learner may fix."
    ),
    "target_too_long": ProblemCode(422, "Target too long", "See target_length of /v1/limits."),
    "targets_count": ProblemCode(422, "Wrong number of targets", "Give one target for every query, or none."),
    "wrong_kind": ProblemCode(422, "Wrong kind of input", "The learner takes another kind of input."),
    "not_base64": ProblemCode(422, "Not base64", "Images in JSON are standard base64 or data: URLs."),
    "not_an_image": ProblemCode(
        422, "Not an image", "The bytes are not a PNG, JPEG, WebP, GIF or BMP image."
    ),
    "truncated_image": ProblemCode(422, "Truncated image", "The image ends early or is damaged."),
    "unsupported_image_format": ProblemCode(
        422, "Unsupported image format", "Send PNG, JPEG, WebP, GIF or BMP."
    ),
    "image_too_complex": ProblemCode(
        422,
        "Image too complex",
        "The image takes far longer to decode than its size warrants; save it anew, for example as PNG.",
    ),
    "image_too_large": ProblemCode(413, "Image too large", "See image_bytes and image_pixels of /v1/limits."),
    "vector_empty": ProblemCode(422, "Empty vector", "A vector needs at least one number."),
    "vector_length": ProblemCode(422, "Wrong vector length", "All vectors of a task have the same length."),
    "vector_too_long": ProblemCode(422, "Vector too long", "See vector_length of /v1/limits."),
    "not_finite": ProblemCode(422, "Not finite", "Vectors and targets must be finite 32-bit floats."),
    "not_a_number": ProblemCode(422, "Not a number", "Vectors and targets contain only numbers."),
    "text_too_long": ProblemCode(422, "Text too long", "See text_characters of /v1/limits."),
    "numerical_overflow": ProblemCode(
        422,
        "Numerical overflow",
        "The values are too large or too small for the learner; scale them to about 1.",
    ),
    # The file is not a valid dataset.
    "not_an_archive": ProblemCode(
        422, "Not a zip archive", "Send a zip archive of class folders, or an npz file."
    ),
    "archive_damaged": ProblemCode(
        422, "Damaged archive", "The archive is truncated or damaged; send it again."
    ),
    "archive_too_large": ProblemCode(
        413, "Unpacked size too large", "See dataset_unpacked_bytes of /v1/limits."
    ),
    "archive_ratio": ProblemCode(
        422, "Suspicious compression ratio", "The archive unpacks to far more than images of its size would."
    ),
    "archive_too_many_members": ProblemCode(413, "Too many members", "See dataset_members of /v1/limits."),
    "archive_size_lie": ProblemCode(
        422, "Wrong member size", "A member unpacks to another size than the archive declares."
    ),
    "archive_path_absolute": ProblemCode(
        422, "Absolute path", "Names of members must be relative to the archive."
    ),
    "archive_path_escapes": ProblemCode(
        422, "Path leaves the archive", "Names of members must not contain '..'."
    ),
    "archive_path_invalid": ProblemCode(422, "Invalid path", "Separate folders and files by slashes."),
    "archive_name_encoding": ProblemCode(
        422,
        "Name in an unknown code page",
        "Make the archive with names in UTF-8, for example by 7-Zip with cu=on.",
    ),
    "archive_labels": ProblemCode(
        422,
        "Wrong hyperserve.json",
        'hyperserve.json gives labels to class folders: {"labels": {"folder": "label"}}.',
    ),
    "archive_not_regular": ProblemCode(
        422, "Not a regular file", "Links, devices and other special files are refused."
    ),
    "archive_encrypted": ProblemCode(422, "Encrypted archive", "Send the archive without a password."),
    "archive_compression": ProblemCode(422, "Unsupported compression", "Members must be stored or deflated."),
    "archive_duplicate_name": ProblemCode(
        422, "Duplicate member", "Two members of the archive have the same name."
    ),
    "archive_layout": ProblemCode(
        422,
        "Wrong layout",
        "The archive must contain class folders with images in them; no image may lie elsewhere.",
    ),
    "npz_layout": ProblemCode(
        422,
        "Wrong arrays",
        "An npz file holds one array of labels and one of inputs; the detail lists candidates.",
    ),
    "npz_pickle": ProblemCode(422, "Pickled objects", "Arrays of Python objects are never read."),
    "npz_dtype": ProblemCode(
        422,
        "Wrong array type",
        "Images and vectors are real numbers; labels are whole numbers, strings or booleans.",
    ),
    "npz_values": ProblemCode(422, "Wrong pixel values", "Images hold numbers from 0 to 1 or from 0 to 255."),
    "npz_shape": ProblemCode(422, "Wrong array shape", "The detail names the axes that the array needs."),
    "npz_labels": ProblemCode(
        422, "Wrong labels", "Labels must be indices into class_name if the file has it."
    ),
    "csv_columns": ProblemCode(
        422, "Wrong columns", "Every row needs a label and the same number of numbers."
    ),
    "csv_grammar": ProblemCode(422, "Not CSV", "The given line breaks the CSV grammar (RFC 4180)."),
    "csv_header": ProblemCode(422, "Unclear header", "Name every column in the first row, by no number."),
    "ambiguous_label_column": ProblemCode(
        422, "Unclear label column", "Name the label column by ?label=; the detail lists the candidates."
    ),
    "unknown_label_column": ProblemCode(
        422,
        "Unknown label column",
        "?label= takes the name or position of a column, or the name of an array.",
    ),
    "ambiguous_numbers": ProblemCode(
        422, "Unclear numbers", "Mark fractions by points, or by commas between semicolons, and no thousands."
    ),
    "dataset_too_many_classes": ProblemCode(422, "Too many classes", "See dataset_classes of /v1/limits."),
    "dataset_too_many_examples": ProblemCode(422, "Too many examples", "See dataset_examples of /v1/limits."),
    # The training is not possible.
    "unknown_dataset": ProblemCode(422, "Unknown dataset", "GET /v1/datasets lists your datasets."),
    "unknown_method": ProblemCode(422, "Unknown method", "The detail lists the known methods."),
    "unknown_encoder": ProblemCode(422, "Unknown encoder", "The detail lists the known encoders."),
    "invalid_hparams": ProblemCode(
        422, "Invalid hyperparameters", "The detail names the invalid hyperparameter."
    ),
    "unusable_encoder": ProblemCode(
        422, "No encoder for a stream", "Choose a learner of images, photos, or vectors of one length."
    ),
    # The registration is not possible.
    "unknown_stream": ProblemCode(
        422, "Unknown stream", "Only bundled streams can be copied; GET /v1/streams lists them."
    ),
    "dataset_mismatch": ProblemCode(
        422,
        "Wrong kind of dataset",
        "The dataset must hold the kind of input that the stream takes, of the same length.",
    ),
    "dataset_too_large": ProblemCode(
        413, "Dataset too large", "Register fewer examples or fewer classes at once."
    ),
    "too_many_stream_tasks": ProblemCode(413, "Too many stream tasks", "See stream_tasks of /v1/limits."),
    "unknown_class": ProblemCode(422, "Unknown class", "The dataset has no class of this name."),
    "single_class": ProblemCode(422, "A single class", "A stream task needs at least two classes."),
    "label_clash": ProblemCode(
        422, "Labels clash", "In cl2 all stream tasks have the same labels; in cl3 no two share a label."
    ),
    "dataset_too_small": ProblemCode(
        422, "Dataset too small", "The detail says what is missing for tasks of the requested ways and shots."
    ),
    # The request is refused before anything looks at its address.
    "malformed_request": ProblemCode(
        400, "Malformed request", "The request breaks the grammar of HTTP/1.1 (RFC 9112)."
    ),
    "header_timeout": ProblemCode(
        408, "Header too slow", "The header of the request did not arrive in time; send it again."
    ),
    "url_too_long": ProblemCode(414, "URL too long", "Send a shorter URL; options may be in the body."),
    "headers_too_large": ProblemCode(431, "Headers too large", "Send fewer or shorter headers."),
    "foreign_origin": ProblemCode(
        403,
        "Foreign origin",
        "A web page of another origin may not change anything; HYPERSERVE_CORS_ORIGINS names those that may.",
    ),
    "unknown_host": ProblemCode(
        421,
        "Unknown host",
        "The server does not answer for this Host; HYPERSERVE_ALLOWED_HOSTS names further ones.",
    ),
    # The server itself has a problem.
    "internal_error": ProblemCode(
        500, "Internal error", "This is a fault of the server; report the request_id."
    ),
    "storage_full": ProblemCode(507, "Storage full", "The disk of the server is full; deletions make room."),
    "busy": ProblemCode(503, "Busy", "Too many requests are waiting; try again after Retry-After seconds."),
    "draining": ProblemCode(
        503, "Draining", "This process is stopping; another one answers, or it will be back soon."
    ),
    "starting": ProblemCode(
        503, "Starting", "Learners are being loaded; try again after Retry-After seconds."
    ),
    "storage_unavailable": ProblemCode(
        503, "Storage unavailable", "The blob store does not answer; try again after Retry-After seconds."
    ),
    "database_unavailable": ProblemCode(
        503, "Database unavailable", "The database does not answer; try again after Retry-After seconds."
    ),
    "learner_unavailable": ProblemCode(
        503, "Learner unavailable", "The learner is no longer served, or could not be loaded."
    ),
}
