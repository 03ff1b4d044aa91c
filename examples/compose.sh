#!/usr/bin/env bash
# Test the composed service: create a task, train a learner through the worker, restart the containers one by one, and
# query the task after each restart. From the repository, with .env filled in:
#   docker compose up -d --build && examples/compose.sh
# COMPOSE is the compose command (docker compose), PYTHON an interpreter with the client installed (python3).
set -euo pipefail
cd "$(dirname "$0")/.."
compose=${COMPOSE:-docker compose} python=${PYTHON:-python3} url=http://127.0.0.1:8000

ready() { for _ in $(seq 240); do curl -sf "$url/readyz" >/dev/null && return; sleep 0.25; done; return 1; }
field() { "$python" -c "import json, sys; print(json.load(sys.stdin)$1)"; }
predict() {
  curl -sf "$url/v1/tasks/$task/predict?top=1" -H 'Content-Type: image/png' \
    --data-binary @examples/glyphs/query/fish-1.png | field '["predictions"][0]["probabilities"]'
}

ready
cd examples/glyphs
task=$(curl -sf "$url/v1/tasks" -F snail=@support/snail/1.png -F snail=@support/snail/2.png \
  -F fish=@support/fish/1.png -F fish=@support/fish/2.png -F ladder=@support/ladder/1.png | field '["id"]')
cd ../..
echo "$task: $(predict)"
"$python" examples/train_learner.py
for service in redis postgres worker api; do
  before=$SECONDS
  $compose restart $service >/dev/null 2>&1
  ready
  echo "after $service was restarted ($((SECONDS - before)) s): $(predict)"
done
"$python" examples/train_learner.py | tail -1
curl -sf -X DELETE "$url/v1/tasks/$task"
