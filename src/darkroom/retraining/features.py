"""Features of all labelled images, computed once for trainings on parts of them."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from darkroom.config.train import TrainConfig
from darkroom.features.extractor import Extractor, Wanted
from darkroom.loading.placement import Features
from darkroom.retraining.parts import LabelledImages, Part
from darkroom.runtime import Runtime
from darkroom.training.features import FeatureBatches
from darkroom.training.job import Job, make_job


class SharedFeatures:
    """The features of all images, if the backbone is frozen; computed when first needed."""

    def __init__(self, config: TrainConfig, runtime: Runtime, images: LabelledImages) -> None:
        self._config, self._runtime, self._images = config, runtime, images

    @cached_property
    def _tables(self) -> tuple[FeatureBatches, Features]:
        """The features of all images as they are trained on, and as they are validated."""
        everything = np.arange(len(self._images.shards))
        job = make_job(self._config, self._runtime, Part(self._images, everything, everything))
        job = job.with_features()
        assert job.features is not None
        extractor = Extractor(job.model, job.spec, job.environment, job.store)
        [validated] = extractor.features([Wanted(job.val)], "train")  # from the cache
        return job.features, validated

    def of(self, job: Job, part: Part) -> Job:
        """Return the job of a part with the features of its images, if the backbone is frozen.

        Raises:
            UserError, OSError: see ``Extractor.features``.
        """
        if self._config.train.num_frozen_epochs == 0:
            return job
        trained, validated = self._tables
        features = trained.of_part(job.train, part.train_rows)
        val = job.val.with_features(np.asarray(validated[part.val_rows]))
        return replace(job, features=replace(features, val=val))
