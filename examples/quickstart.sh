#!/bin/sh
# Create a task from the shipped drawings and query it with curl. Start a server first: `make serve`.
set -eu
url=${HYPERSERVE_URL:-http://127.0.0.1:8000}
cd "$(dirname "$0")/glyphs"

# A support set: one part per example; the name of the part is the class.
answer=$(curl -sS --fail-with-body "$url/v1/tasks?learner=glyphs" \
  -F snail=@support/snail/1.png -F snail=@support/snail/2.png -F snail=@support/snail/3.png \
  -F fish=@support/fish/1.png -F fish=@support/fish/2.png -F fish=@support/fish/3.png \
  -F ladder=@support/ladder/1.png)
echo "$answer"
task=$(echo "$answer" | sed -n 's/.*"id": *"\(task_[^"]*\)".*/\1/p')

# One query: the image is the body.
curl -sS --fail-with-body "$url/v1/tasks/$task/predict" -H 'Content-Type: image/png' --data-binary @query/fish-1.png
echo

# Several queries: parts named `query`. The umbrella is none of the classes.
curl -sS --fail-with-body "$url/v1/tasks/$task/predict?coverage=0.95&top=2" \
  -F query=@query/snail-1.png -F query=@query/ladder-1.png -F query=@query/umbrella-1.png
echo

curl -sS --fail-with-body -X DELETE "$url/v1/tasks/$task"
