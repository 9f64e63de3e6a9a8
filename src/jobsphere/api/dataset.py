"""DatasetService: activation of datasets. They are made by the operator, and by jobs."""

from __future__ import annotations

from yandex.cloud.datasphere.v2 import dataset_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.operation_codec import encode_done
from jobsphere.api.registrar import Implementation
from jobsphere.domain.resource import Subject
from jobsphere.service.datasets import Datasets


class DatasetService:
    """The published service of datasets."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    def implementation(self) -> Implementation:
        """Activate; there is no way back from that but to delete it."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["DatasetService"],
            {"Activate": self.activate},
            without={"Deactivate": "a dataset is always active here; `jobsphere dataset delete` frees its disk space"},
        )

    async def activate(self, who: Subject, request: pb.ActivateDatasetRequest) -> Operation:
        """Make sure that jobs can use a dataset; the operation is done."""
        return encode_done(await self._datasets.activate(who, request.project_id, request.dataset_id))
