"""Khronos' own validator of glTF, where Node and its package `gltf-validator` are at hand."""

import json
import shutil
import subprocess
from pathlib import Path

SCRIPT = """
const fs = require("fs"), path = require("path"), file = process.argv[1];
const beside = (uri) => new Uint8Array(fs.readFileSync(path.resolve(path.dirname(file), decodeURIComponent(uri))));
require("gltf-validator")
    .validateBytes(new Uint8Array(fs.readFileSync(file)), { externalResourceFunction: async (uri) => beside(uri) })
    .then((report) => console.log(JSON.stringify(report.issues)));
"""
SECONDS = 120


def errors(path: Path, folder: Path | None = None) -> int | str:
    """The number of errors that the validator finds in a .glb or .gltf file, or why there is no number.

    The package is found as Node finds packages from `folder`, by default the working folder: in its `node_modules`, in
    those above it, or in NODE_PATH.
    """
    if not (node := shutil.which("node")):
        return "Node is not installed"
    command = [node, "-e", SCRIPT, str(path.resolve())]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"the validator was not done after {SECONDS} s"
    if done.returncode:
        if "Cannot find module 'gltf-validator'" in done.stderr:
            return "its validator is not installed: npm install gltf-validator"
        return f"the validator failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"
    return int(json.loads(done.stdout)["numErrors"])
