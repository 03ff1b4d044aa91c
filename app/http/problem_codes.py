"""Every problem the server can answer with: its code, status, title and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    status: int
    title: str
    text: str


CATALOGUE: dict[str, Entry] = {
    # The document cannot be read.
    "empty_body": Entry(400, "Empty body", "Send a body; its form is in the OpenAPI document."),
    "incomplete_body": Entry(
        400, "Incomplete body", "The connection ended before the whole body had arrived."
    ),
    "client_gone": Entry(400, "Client gone", "The connection ended before the answer was there."),
    "invalid_json": Entry(
        400, "Not JSON", "The body breaks the JSON grammar (RFC 8259) at the position given."
    ),
    "invalid_utf8": Entry(400, "Not UTF-8", "JSON travels in UTF-8, and so do names of multipart parts."),
    "byte_order_mark": Entry(
        400, "Byte order mark", "JSON must not start with a byte order mark (RFC 8259, 8.1)."
    ),
    "duplicate_key": Entry(
        400, "Duplicate key", "A key stands twice in one object; which one counts is undefined."
    ),
    "not_json_number": Entry(
        400, "Not a JSON number", "NaN and Infinity are not JSON; leave the field out instead."
    ),
    "number_out_of_range": Entry(
        400, "Number out of range", "A number must fit into a 64-bit float or integer."
    ),
    "lone_surrogate": Entry(400, "Lone surrogate", "An escape \\ud800-\\udfff without its pair is not text."),
    "control_character": Entry(400, "Control character", "Control characters are refused; NUL everywhere."),
    "too_deep": Entry(400, "Nested too deep", "No request needs this many nested arrays and objects."),
    "too_many_values": Entry(
        400, "Too many values", "The document holds more values than any valid request."
    ),
    "invalid_multipart": Entry(400, "Broken multipart", "The body breaks the multipart grammar (RFC 7578)."),
    "too_many_parts": Entry(413, "Too many parts", "Send fewer parts, or JSON; see /v1/limits."),
    # The request is not one that a route takes.
    "not_found": Entry(404, "Not found", "There is nothing at this address."),
    "task_not_found": Entry(
        404, "No such task", "The task never was, has been deleted, or is someone else's."
    ),
    "version_not_found": Entry(404, "No such version", "GET /v1/tasks/{id}/versions lists those of a task."),
    "example_not_found": Entry(
        404, "No such example", "GET /v1/tasks/{id}/support lists those of the current version."
    ),
    "prediction_not_found": Entry(
        404, "No such prediction", "Predictions asked with store=true have ids; theirs went with the task."
    ),
    "prediction_lapsed": Entry(
        410,
        "Prediction lapsed",
        "Feedback is taken for a while only; add the input to the support set instead.",
    ),
    "idempotency_deleted": Entry(
        410,
        "Made and deleted",
        "What the request with this Idempotency-Key made is gone; make up a new key to make it again.",
    ),
    "precondition_failed": Entry(
        412, "Changed meanwhile", "It is not as If-Match says; read it again, then decide again."
    ),
    "task_contended": Entry(
        409, "Too many changes at once", "Others changed the task all the time; try again."
    ),
    "dataset_not_found": Entry(
        404, "No such dataset", "It never was, has been deleted, or is someone else's."
    ),
    "dataset_in_use": Entry(
        409, "Dataset in use", "A job learns from it, or waits to; let the job end, or cancel it."
    ),
    "learner_exists": Entry(
        409, "Name taken", "A learner has this name; choose another, or delete that one first."
    ),
    "learner_bundled": Entry(409, "Learner of a folder", "It is served from a folder, not trained here."),
    "learner_in_use": Entry(
        409, "Learner in use", "Tasks or streams stand on it; delete them, or delete it with force=true."
    ),
    "learner_not_found": Entry(404, "No such learner", "GET /v1/learners lists those that are served."),
    "stream_not_found": Entry(404, "No such stream", "GET /v1/streams lists yours, and those of the server."),
    "stream_exists": Entry(
        409, "Name taken", "A stream has this name; choose another, or delete that one first."
    ),
    "stream_bundled": Entry(
        409, "Stream of a folder", "It came with the server and is not to change; make one of your own."
    ),
    "stream_busy": Entry(
        409, "Stream busy", "A job works on the stream, or waits to; let it end, or cancel it."
    ),
    "stream_empty": Entry(
        409,
        "No version yet",
        "Nothing has been registered; GET /v1/streams/{name}/tasks says what is under way.",
    ),
    "stream_task_not_ready": Entry(
        409, "Not registered yet", "Its job is still to end; GET /v1/streams/{name}/tasks names it."
    ),
    "stream_version_not_found": Entry(
        404, "No such version", "GET /v1/streams/{name}/versions lists those of a stream."
    ),
    "stream_task_not_found": Entry(
        404, "No such stream task", "GET /v1/streams/{name}/tasks lists those of a stream."
    ),
    "stream_task_exists": Entry(
        409, "Registered already", "A stream task is registered once; give this one another name."
    ),
    "stream_task_forgotten": Entry(
        410, "Forgotten", "The stream task was forgotten, and cannot be brought back."
    ),
    "job_not_found": Entry(404, "No such job", "The job never was, has been dropped, or is someone else's."),
    "job_finished": Entry(409, "Job finished", "It has ended already; GET /v1/jobs/{id} says how."),
    "method_not_allowed": Entry(
        405, "Method not allowed", "The header Allow names the methods of this address."
    ),
    "idempotency_in_flight": Entry(
        409,
        "Key in flight",
        "A request with this Idempotency-Key is being answered; send it again after Retry-After.",
    ),
    "body_timeout": Entry(408, "Body too slow", "The body did not arrive in time; send it again."),
    "body_too_large": Entry(413, "Body too large", "Send fewer or smaller inputs; see /v1/limits."),
    "unsupported_media_type": Entry(
        415, "Unsupported media type", "The detail names the types this address takes."
    ),
    "unsupported_encoding": Entry(415, "Unsupported encoding", "Send the body without Content-Encoding."),
    # The request has no meaning.
    "invalid_request": Entry(422, "Invalid request", "The errors name each field at fault."),
    "missing": Entry(422, "Missing field", "A required field is absent."),
    "unknown_field": Entry(422, "Unknown field", "The request has no such field; it may be misspelt."),
    "given_twice": Entry(
        422, "Given twice", "An option stands in the query string twice, or there and in the body."
    ),
    "wrong_type": Entry(422, "Wrong type", "The value has another type than the field."),
    "out_of_range": Entry(422, "Out of range", "The value is beyond the limit given."),
    "too_long": Entry(422, "Too long", "The text has more characters than the limit given."),
    "too_short": Entry(422, "Too short", "The text has fewer characters than the limit given."),
    "bad_format": Entry(422, "Bad format", "The text does not have the form of this field."),
    "idempotency_mismatch": Entry(
        422, "Key of another request", "Make up a new Idempotency-Key for every new request."
    ),
    "bad_cursor": Entry(422, "Bad cursor", "Use the next_cursor of the page before, unchanged."),
    "invalid_label": Entry(
        422, "Invalid label", "A label is 1 to 200 characters without control characters."
    ),
    "duplicate_label": Entry(422, "A label twice", "Two labels are equal after Unicode normalisation (NFC)."),
    "reserved_name": Entry(
        422, "Reserved name", "Parts named query are queries; use JSON for a class of that name."
    ),
    "empty_support": Entry(
        422,
        "Empty support",
        "A support set needs at least one example of each of two classes, or one of a regression task.",
    ),
    "too_few_classes": Entry(422, "Too few classes", "A support set needs at least two classes."),
    "too_many_classes": Entry(422, "Too many classes", "See ways_max of /v1/limits."),
    "empty_class": Entry(422, "A class without examples", "Each class needs at least one example."),
    "too_many_examples": Entry(422, "Too many examples", "See support_examples of /v1/limits."),
    "no_queries": Entry(422, "No queries", "Ask at least one query."),
    "too_many_queries": Entry(422, "Too many queries", "See queries of /v1/limits; ask in several requests."),
    "unknown_learner": Entry(422, "Unknown learner", "GET /v1/learners lists those that are served."),
    "no_default_learner": Entry(422, "No default learner", "No learner takes this input unasked; name one."),
    "ambiguous_input": Entry(422, "Ambiguous input", "Name a learner, or say {image: ...} or {text: ...}."),
    "unsupported_way": Entry(422, "Way not taken", "The learner does not take this many classes."),
    "unsupported_shot": Entry(
        422, "Shot not taken", "The learner does not take this many examples of a class."
    ),
    "unsupported_support": Entry(
        422, "Support set not taken", "The learner cannot adapt to this support set."
    ),
    "wrong_task_kind": Entry(
        422,
        "Wrong kind of task",
        "Labels make classification tasks and targets regression tasks; a learner does one of the two.",
    ),
    "target_length": Entry(
        422, "Another target length", "All targets of a task have one length; the learner may fix it."
    ),
    "target_too_long": Entry(422, "Target too long", "See target_length of /v1/limits."),
    "targets_count": Entry(422, "Another number of targets", "Give one target for each query, or none."),
    "wrong_kind": Entry(422, "Wrong kind of input", "The learner takes another kind of input."),
    "not_base64": Entry(422, "Not base64", "Images in JSON are standard base64 or data: URLs."),
    "not_an_image": Entry(422, "Not an image", "The bytes are no PNG, JPEG, WebP, GIF or BMP."),
    "truncated_image": Entry(422, "Truncated image", "The image ends early or is damaged."),
    "unsupported_image_format": Entry(422, "Unsupported image format", "Send PNG, JPEG, WebP, GIF or BMP."),
    "image_too_large": Entry(413, "Image too large", "See image_bytes and image_pixels of /v1/limits."),
    "vector_empty": Entry(422, "Empty vector", "A vector needs at least one number."),
    "vector_length": Entry(422, "Another vector length", "All vectors of a task have one length."),
    "vector_too_long": Entry(422, "Vector too long", "See vector_length of /v1/limits."),
    "not_finite": Entry(422, "Not finite", "Vectors and targets hold finite 32-bit floats."),
    "not_a_number": Entry(422, "Not a number", "A vector and a target hold numbers only."),
    "text_too_long": Entry(422, "Text too long", "See text_characters of /v1/limits."),
    "numerical_overflow": Entry(
        422, "Numerical overflow", "The values are too large for the learner; scale them."
    ),
    # A file is no data set.
    "not_an_archive": Entry(422, "Not a zip archive", "Send a zip of class folders, or an npz."),
    "archive_damaged": Entry(422, "Damaged archive", "The archive is cut off or damaged; send it again."),
    "archive_too_large": Entry(413, "Unpacks too large", "See dataset_unpacked_bytes of /v1/limits."),
    "archive_ratio": Entry(422, "Unpacks too large for its size", "No set of pictures packs this well."),
    "archive_too_many_members": Entry(413, "Too many members", "See dataset_members of /v1/limits."),
    "archive_size_lie": Entry(
        422, "Wrong size of a member", "A member unpacks to another size than it says."
    ),
    "archive_path_absolute": Entry(422, "Absolute path", "Members are named from the archive's own folder."),
    "archive_path_escapes": Entry(422, "Path leads out", "No member may be named with '..'."),
    "archive_path_invalid": Entry(422, "Bad path", "Folders and files are parted by single slashes."),
    "archive_not_regular": Entry(422, "Not a regular file", "Links, devices and the like are refused."),
    "archive_encrypted": Entry(422, "Encrypted archive", "Send it without a password."),
    "archive_compression": Entry(422, "Unsupported compression", "Members are stored or deflated."),
    "archive_duplicate_name": Entry(422, "A member twice", "Two members of the archive have the same name."),
    "archive_layout": Entry(
        422, "Wrong layout", "The archive holds class folders with pictures in them, and nothing else."
    ),
    "npz_layout": Entry(422, "Wrong arrays", "An npz holds label and one of image, x, embedding."),
    "npz_pickle": Entry(422, "Pickled objects", "Arrays of Python objects are never read."),
    "npz_dtype": Entry(
        422, "Wrong type of array", "image is uint8; x and embedding are real; labels are whole or texts."
    ),
    "npz_shape": Entry(422, "Wrong shape of array", "The detail names the axes that the array needs."),
    "npz_labels": Entry(422, "Wrong labels", "Labels index class_name, where that is given."),
    "csv_columns": Entry(422, "Wrong columns", "Every row holds a label and the same number of numbers."),
    "csv_grammar": Entry(422, "Not CSV", "The line given breaks the grammar of CSV (RFC 4180)."),
    "dataset_too_many_classes": Entry(422, "Too many classes", "See dataset_classes of /v1/limits."),
    "dataset_too_many_examples": Entry(422, "Too many examples", "See dataset_examples of /v1/limits."),
    # A training has no meaning.
    "unknown_dataset": Entry(422, "Unknown dataset", "GET /v1/datasets lists yours."),
    "unknown_method": Entry(422, "Unknown method", "The detail lists the methods that are known."),
    "unknown_encoder": Entry(422, "Unknown encoder", "The detail lists the encoders that are known."),
    "invalid_hparams": Entry(422, "Invalid hyperparameters", "The detail names the one at fault."),
    "unusable_encoder": Entry(
        422, "No encoder for a stream", "A learner of images, photos or vectors of one length has one."
    ),
    # A registration has no meaning.
    "unknown_stream": Entry(422, "Unknown stream", "Copied can be those that came with the server."),
    "dataset_mismatch": Entry(
        422, "Another kind of input", "A dataset holds what the stream takes: its kind, and its length."
    ),
    "dataset_too_large": Entry(
        413, "Dataset too large", "Register fewer examples, or fewer classes, at once."
    ),
    "too_many_stream_tasks": Entry(413, "Too many stream tasks", "See stream_tasks of /v1/limits."),
    "unknown_class": Entry(422, "Unknown class", "The dataset has no class of this name."),
    "single_class": Entry(422, "A single class", "A stream task needs at least two classes."),
    "label_clash": Entry(
        422,
        "Labels clash",
        "In cl2 all stream tasks have the same labels; in cl3 no two have one in common.",
    ),
    "dataset_too_small": Entry(
        422, "Dataset too small", "The detail says what is short for tasks of the ways and shots asked."
    ),
    # The server's own.
    "internal_error": Entry(500, "Internal error", "This is a fault of the server; report the request_id."),
    "storage_full": Entry(507, "Storage full", "The server has no room for the file; try again later."),
    "busy": Entry(503, "Busy", "Too much is waiting; try again after Retry-After seconds."),
    "draining": Entry(503, "Draining", "This process is stopping; others answer, or it will be back soon."),
    "starting": Entry(503, "Starting", "Learners are being loaded; try again after Retry-After seconds."),
    "storage_unavailable": Entry(
        503, "Storage unavailable", "The store of inputs does not answer; try again after Retry-After."
    ),
    "database_unavailable": Entry(
        503, "Database unavailable", "The database does not answer; try again after Retry-After seconds."
    ),
    "learner_unavailable": Entry(
        503, "Learner unavailable", "The learner of this task is not served any more."
    ),
}
