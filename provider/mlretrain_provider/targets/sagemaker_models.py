"""SageMaker models made of registered versions: packed once, uploaded once, created once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from mlretrain.runtime import fingerprint
from mlretrain.runtime.s3 import S3Settings, delete_object, head_object, put_file
from mlretrain_provider.backends.sagemaker_tags import tags_of
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.targets.sagemaker_endpoint import Endpoint
from mlretrain_provider.targets.sagemaker_options import EndpointOptions
from mlretrain_provider.targets.sagemaker_package import FILE, ModelSource, downloaded, pack
from mlretrain_provider.targets.sagemaker_requests import model_name, model_request

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SageMakerModels:
    """What an endpoint serves, has served and may serve again.

    :param model: the registered model.
    :param labels: where it comes from, for the tags.
    :param storage_conn_id: the connection that opens ``model_s3_uri``; ``None``: the process's own rights.
    """

    endpoint: Endpoint
    model: str
    options: EndpointOptions
    source: ModelSource
    labels: Mapping[str, str]
    storage_conn_id: str | None

    def as_served(self, name: str | None) -> str | None:
        """The SageMaker model that a variant is said to have, unless somebody has deleted it."""
        return name if name and self.endpoint.data_uri(name) else None

    def named(self, version: str) -> str:
        """The SageMaker model of a version, which is made first unless it is there.

        A version whose files were hashed when it was registered is found without being copied.

        :raises InvalidInput: there is no such version, or it is not what was registered.
        """
        tags = self.source.tags(self.model, version)
        known = tags.get(fingerprint.MODEL_TAG)
        if known and self._is_there(name := self._name(version, known)):
            return name
        where = f"models:/{self.model}/{version}"
        with downloaded(self.source, self.model, version) as folder:
            fingerprint.check(folder, tags, where=where)
            measured = known or fingerprint.fingerprint(folder)
            name = self._name(version, measured)
            if not self._is_there(name):
                logger.info("packing %s for SageMaker", where)
                own = tags_of({**self.labels, "version": version, "sha256": measured}, self.options.tags)
                self.endpoint.create_model(model_request(name, self._upload(folder), self.options, own))
        return name

    def delete(self, name: str) -> None:
        """Delete a SageMaker model, and its package if no other model of the endpoint is made of it."""
        package = self.endpoint.data_uri(name)
        self.endpoint.delete_model(name)
        if package is None or not package.startswith(f"{self._folder}/"):
            return
        if all(self.endpoint.data_uri(each) != package for each in self.endpoint.packaged()):
            delete_object(package, self._s3)

    def _name(self, version: str, digest: str) -> str:
        return model_name(self.endpoint.names, version, digest, self.options)

    def _is_there(self, name: str) -> bool:
        """Whether the model and its package exist; one that has lost its package is deleted."""
        package = self.endpoint.data_uri(name)
        if package is None:
            return False
        if head_object(package, self._s3) is None:
            self.endpoint.delete_model(name)
            return False
        return True

    def _upload(self, folder: Path) -> str:
        """The URI of the version's package, which is uploaded unless the same bytes are there."""
        with TemporaryDirectory(prefix="mlretrain-package-") as scratch:
            archive = Path(scratch) / FILE
            uri = f"{self._folder}/{pack(folder, archive)}/{FILE}"
            if head_object(uri, self._s3) is None:
                put_file(uri, archive, self._s3, kms_key=self.options.kms_key)
        return uri

    @property
    def _folder(self) -> str:
        return f"{self.options.model_s3_uri.rstrip('/')}/{self.endpoint.names.endpoint}"

    @cached_property
    def _s3(self) -> S3Settings:
        return S3Settings.from_env(storage_env(self.storage_conn_id) or os.environ)
