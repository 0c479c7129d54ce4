from __future__ import annotations

import subprocess
import sys


def test_the_client_imports_no_torch_onnx_or_web_framework() -> None:
    code = (
        "import sys, sam3_triton, sam3_triton.cli; "
        "print([name for name in ('torch', 'transformers', 'onnx', 'onnxruntime', 'fastapi', 'uvicorn', 'cv2', "
        "'sam3_export', 'sam3_server') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
