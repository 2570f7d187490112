# docker build -t peft-lab . && docker run --rm -p 127.0.0.1:7860:7860 -e LAB_TRUSTED=1 peft-lab
#
# Two stages: the first compiles llama.cpp, the second holds no compiler. GGML_NATIVE=OFF, so that the image runs on
# any x86-64 with AVX2, not only on the machine that built it.

FROM python:3.12-slim AS wheels
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.txt .
# With SOURCE_DATE_EPOCH set, ggml would leave out AVX as well; so it must not be.
RUN unset SOURCE_DATE_EPOCH && \
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" pip wheel --no-cache-dir --wheel-dir /wheels -r requirements.txt

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels --mount=type=bind,source=requirements.txt,target=/list \
    pip install --no-cache-dir --no-index --find-links /wheels -r /list
USER user
WORKDIR /home/user/app
COPY --chown=user . .
ENV LAB_HOST=0.0.0.0 PORT=7860 GRADIO_ANALYTICS_ENABLED=False PYTHONUNBUFFERED=1
EXPOSE 7860
CMD ["python", "app.py"]
