#!/bin/sh
# Modules of easyfsl and learn2learn into a folder of their own, for `python -m benchmarks.family --peers FOLDER`.
set -eu
folder=${1:-/tmp/peers}
python=${PYTHON:-python3}
mkdir -p "$folder/source"
"$python" -m pip install --quiet --no-deps --upgrade --target "$folder" easyfsl==1.5.0
"$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: -d "$folder/source" learn2learn==0.2.0
tar -xzf "$folder/source/learn2learn-0.2.0.tar.gz" -C "$folder/source"
# Its C files were made by a Cython of Python 3.7 and do not compile under 3.11; only its data loaders use them.
sed -i -e 's/ext_modules=extensions,/ext_modules=[],/' -e "s/setup_requires=\['cython>=0.28.5', \],//" \
    "$folder/source/learn2learn-0.2.0/setup.py"
"$python" -m pip install --quiet --no-deps --no-build-isolation --upgrade --target "$folder" \
    "$folder/source/learn2learn-0.2.0"
