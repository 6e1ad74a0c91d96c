# docker build -t kinship . && docker run --read-only --tmpfs /tmp --memory 4g -p 127.0.0.1:5000:5000 kinship
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /srv
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY utils utils
COPY apps apps
COPY data/eigenfaces.npz data/eigenfaces.npz
COPY data/calibration data/calibration
COPY models/kinship.npz models/MODEL_CARD.md models/

RUN useradd --system --no-create-home --shell /usr/sbin/nologin kinship
USER kinship
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/readyz', timeout=4)"]
# The first process of the container is the server: it gets the signal to stop, and ends gently.
ENTRYPOINT ["python", "-m", "apps.flask_app", "--host", "0.0.0.0", "--port", "5000"]
