"""The loop: Accelerate moves, shards and scales; the recipe says what is learnt; nothing here knows an architecture."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stzoo import api, errors, files
from stzoo.predictor import Predictor
from stzoo.processes import Group, keep_memory
from stzoo.recipe import Recipe
from stzoo.training import batches, checkpoints
from stzoo.training.job import Job, Progress
from stzoo.training.launch import check_launcher, forget_accelerator, make_accelerator, tell_deepspeed
from stzoo.training.request import make_request
from stzoo.training.run import Run, now, open_folder
from stzoo.training.watch import Watch

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from stzoo.sources import Source

log = logging.getLogger("stzoo")


def finetune(
    model: str | os.PathLike[str] | None = None,
    data: Source | Mapping[str, Source] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Train a model further on data, or an architecture from scratch; under ``torchrun`` on many processes.

    Args:
        model: a model as :func:`stzoo.load` takes it, or the name of an architecture, which is then built untrained.
        data: what :func:`stzoo.data.open_data` takes; for a recipe with several roles, one for each by name.
        output: the run folder, see :class:`Run`; new or empty unless ``resume``.
        resume: go on from the last checkpoint in ``output``, to the same weights as without interruption.
        config: options in a YAML file or a mapping; those given as keywords win.
        options: see ``stzoo.training.options.OPTIONS``; ``{"recipe.lr": 1e-4}`` sets a key inside a table.

    Raises:
        ConfigError: an option is unknown or out of range, the folder is in use or is another run.
        DatasetError: the data does not fit the task; names the file.
        DependencyMissing: ``stzoo[train]`` is not installed.
        DiskFull, TrainingFailed: the last complete checkpoint is kept.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise errors.DependencyMissing(
            "training needs the package accelerate", "Run: pip install 'stzoo[train]'"
        ) from None
    check_launcher()
    keep_memory()
    job = Job(make_request(model, data, output, resume, config, options))
    try:
        with closing(_Trainer(job)) as trainer:
            trainer.open()
            with files.room(trainer.folder, "Free some space, then go on with --resume"):
                return trainer.train()
    finally:
        forget_accelerator()


class _Step(nn.Module):
    """The losses as one forward pass, so that wrappers such as DistributedDataParallel see every use of the network."""

    def __init__(self, module: nn.Module, recipe: Recipe, companions: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.module, self.companions = module, nn.ModuleDict(companions)
        self._recipe = recipe

    def forward(self, batch: Any, *where: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._recipe.losses(self.module, batch, *where)
        return losses


class _Trainer:
    def __init__(self, job: Job) -> None:
        self.job, self.options, self.recipe = job, job.options, job.recipe
        self.folder = job.request.output
        self.lock: Any = None
        self.asked_to_stop = False
        self._flag: Tensor | None = None
        self._rates: dict[str, float] = {}
        self.accelerator = make_accelerator(self.folder, job.options, job.recipe)
        self.device = self.accelerator.device
        self.group = Group(self.device)
        if self.recipe.grows and self.accelerator.num_processes > 1:
            raise errors.ConfigError("this recipe changes the sizes of parameters", "Run it in one process")
        for name in ("ema", "compile"):
            if self.recipe.grows and self.options[name]:
                raise errors.ConfigError(f"{name} does not work where parameters change their sizes", "Leave it out")
        if self.sharded and (self.recipe.closed_form or len(self.recipe.stages) > 1):
            self._refuse_sharding("learns in stages or in one go")
        if self.sharded and self.options["ema"] is not None and not self.accelerator.is_fsdp2:
            raise errors.ConfigError(
                "ema does not work with DeepSpeed or FSDP 1",
                "Leave ema out, run it with torchrun, or set fsdp_version to 2: accelerate config",
            )

    def open(self) -> None:
        """Open the data, then the folder; only then is anything written."""
        accelerator, job = self.accelerator, self.job
        with self.group.main_first():
            job.open_data()
        self.plan = job.plan(accelerator.num_processes)
        self.watch = Watch(job, self.plan, Run(self.folder), accelerator)
        self.group.from_main(self._take_folder)
        try:
            accelerator.init_trackers("stzoo", config={key: str(value) for key, value in self.options.items()})
        except Exception as problem:  # each has its own: no key, no server
            raise errors.TrainingFailed(
                f"the trackers {', '.join(self.options['trackers'])} cannot be started ({' '.join(str(problem).split())})",
                "Set them up, then go on with --resume; or without them: --resume --trackers ''",
            ) from problem

    def _take_folder(self) -> None:
        needed = _checkpoint_size(self.job.predictor.module) * (self.options["keep"] + 1)
        self.lock = open_folder(self.folder, self.job.request.resume, needed)
        if not self.job.request.resume:
            self.watch.begin()
        for name in ("best", "last"):
            checkpoints.recover(self.folder / name)

    def _build(self) -> None:
        """Put the networks where they are trained."""
        options = self.options
        self.module: nn.Module = self.job.predictor.module.to(self.device)
        if options["channels_last"]:
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.companions = {key: item.to(self.device) for key, item in self.recipe.companions(self.module).items()}
        self.average: Any = None
        if options["ema"] is not None:
            from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

            # Many tensors at once is faster, but sharded parameters and whole buffers do not mix.
            averaging: dict[str, Any] = (
                {"avg_fn": get_ema_avg_fn(options["ema"])}  # type: ignore[no-untyped-call]
                if self.sharded
                else {"multi_avg_fn": get_ema_multi_avg_fn(options["ema"])}  # type: ignore[no-untyped-call]
            )
            self.average = AveragedModel(self.module, use_buffers=True, **averaging).requires_grad_(False)
            if self.sharded:  # as the network is, and saved with it
                self.companions["average"] = self.average
        if options["compile"]:
            self.module.compile()

    def _prepare(self, stage: int) -> None:
        """Optimizers and wrapped networks of a stage."""
        accelerator, recipe = self.accelerator, self.recipe
        name, first, end = self.plan.stages[stage]
        self.stage, recipe.stage = stage, name
        recipe.samples_per_step = self.job.samples_per_step(accelerator.num_processes)
        pairs = [] if recipe.closed_form else recipe.optimizers(self.module, end - first)
        self.schedules: list[LRScheduler] = [schedule for _, schedule in pairs]
        if self.sharded and len(pairs) > 1:
            self._refuse_sharding("has several optimizers")
        if accelerator.state.deepspeed_plugin is not None:
            tell_deepspeed(accelerator.state.deepspeed_plugin.deepspeed_config, self.options)
        step = _Step(self.module, recipe, self.companions)
        self.optimizers: list[Any]
        if recipe.closed_form:  # no gradients to be shared
            self.step_module, self.optimizers = accelerator.prepare_model(step, evaluation_mode=True), []
            return
        try:
            self.step_module, *self.optimizers = accelerator.prepare(step, *(optimizer for optimizer, _ in pairs))
        except ValueError as problem:  # of FSDP's or DeepSpeed's own configuration
            raise errors.ConfigError(f"Accelerate cannot be set up so: {problem}") from problem

    def _refuse_sharding(self, reason: str) -> None:
        raise errors.ConfigError(
            f"this recipe {reason}, which FSDP and DeepSpeed do not take", "Run it with torchrun, or in one process"
        )

    @property
    def sharded(self) -> bool:
        """Whether no process has all the weights."""
        return str(self.accelerator.distributed_type.value) in ("FSDP", "DEEPSPEED", "MEGATRON_LM")

    def _current(self) -> Predictor | None:
        """The predictor with the weights that count now, calibrated; None on processes that have none."""
        predictor, module = self.job.predictor, self._gathered() if self.sharded else self.module
        if module is None:
            return None
        if not self.sharded:
            module = self.average.module if self.average is not None else module
            self._share_buffers(module)
        current = replace(predictor, module=module.eval(), config=predictor.config | self.recipe.config(module))
        self.recipe.calibrate(current, self.job.validation)
        return replace(current, config=predictor.config | self.recipe.config(module))

    def _gathered(self) -> nn.Module | None:
        """The network with the weights of all processes, on the main one."""
        state = self.accelerator.get_state_dict(self.step_module)
        if not self.accelerator.is_main_process:
            return None
        predictor, prefix = self.job.predictor, "module." if self.average is None else "companions.average.module."
        whole = api.create(predictor.architecture.name, device="cpu", **predictor.config).module
        whole.load_state_dict(
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        )
        return whole.to(self.device)

    def _share_buffers(self, module: nn.Module) -> None:
        """Give every process the main one's buffers: running statistics are of each process's own samples."""
        from accelerate.utils import broadcast

        if self.accelerator.num_processes > 1:
            with torch.no_grad():
                for buffer in module.buffers():
                    buffer.copy_(broadcast(buffer.clone(), from_process=0))

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> Run:
        """Train from where the run is to its end."""
        watch, run = self.watch, self.watch.run
        if not (self.job.request.resume and self._resume()):
            self._build()
            batches.seed_everything(self.options["seed"])
            with torch.no_grad():
                self.recipe.start(self.module, self.job.trained)
            self._prepare(0)
            if self.accelerator.is_main_process:
                run.rewind(-1)
        if self._over() and run.record["status"] == "finished":
            log.warning("%s is finished: there is nothing to go on with", self.folder)
            return run
        watch.record(status="running")
        try:
            with self._signals():
                if watch.progress.start is None:
                    watch.progress.start = self._evaluate()
                if not self._over():  # else it was killed after its last checkpoint
                    self._fit() if self.recipe.closed_form else self._steps()
                watch.keep("last", self._current())
        except KeyboardInterrupt:
            watch.record(status="interrupted")
            if self.accelerator.is_main_process:
                count = self.accelerator.num_processes
                launched = f", on {count} processes as before" if count > 1 else ""
                log.warning("stopped. Go on with: stzoo finetune --output %s --resume%s", self.folder, launched)
            raise
        except torch.OutOfMemoryError as problem:
            watch.record(status="failed")
            raise errors.TrainingFailed(
                f"batches of {self.options['batch_size']} do not fit into the device's memory",
                "Lower batch_size and raise accumulate",
            ) from problem
        except BaseException:
            with suppress(errors.DiskFull):  # which may be why it failed
                watch.record(status="failed")
            raise
        watch.record(status="finished", finished=now())
        return run

    def _over(self) -> bool:
        """Whether all steps were done, or nothing became better for too long."""
        progress, total = self.watch.progress, self.plan.total
        return progress.step >= total or progress.since_best >= (self.options["patience"] or total)

    def _steps(self) -> None:
        watch, plan, progress, options = self.watch, self.plan, self.watch.progress, self.options
        samples = self.job.samples_per_step(self.accelerator.num_processes)
        stream, logged, done = iter(self._loader()), progress.step, False
        watch.start_clock()
        with self._bar() as bar:
            while not done:
                started = time.perf_counter()
                if (stage := plan.stage_at(progress.step)) != self.stage:
                    self.accelerator.free_memory()
                    self._prepare(stage)
                self._step(stream)
                progress.step += 1
                progress.drawn += samples
                progress.seconds += time.perf_counter() - started
                bar.update()
                stopping, done = self._stopping(), progress.step >= plan.total
                evaluating = progress.step % plan.evaluate_every == 0 or done
                saving = progress.step % plan.checkpoint_every == 0 or done or stopping
                if progress.step % options["log_every"] == 0 or evaluating or saving:
                    loss = watch.log(progress.step - logged, self._rates)
                    bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
                    logged = progress.step
                if evaluating:
                    self._evaluate()
                    done = self._over()
                if saving or done:
                    self._checkpoint()
                if evaluating or saving:
                    watch.start_clock()
                if stopping and not done:
                    watch.keep("last", self._current())
                    raise KeyboardInterrupt

    def _step(self, stream: Iterator[Any]) -> None:
        """One optimizer step of every turn."""
        from accelerate.utils import send_to_device

        accelerator, options, step = self.accelerator, self.options, self.watch.progress.step
        turns, rank = len(self.optimizers), accelerator.process_index
        self.step_module.train()
        for part in range(options["accumulate"]):
            batch = send_to_device(next(stream), self.device, non_blocking=True)
            with accelerator.accumulate(self.step_module):
                for turn, optimizer in enumerate(self.optimizers):
                    batches.seed_everything(options["seed"], step, part, turn, rank)
                    with _only(optimizer, self.optimizers):
                        losses = self.step_module(batch, *((step, turn) if turns > 1 else (step,)))
                        accelerator.backward(torch.stack(list(losses.values())).sum())
                    if accelerator.sync_gradients:
                        if options["clip"] is not None:
                            mine = {id(item) for item in _parameters(optimizer)}
                            ordered = [item for item in self.step_module.parameters() if id(item) in mine]
                            accelerator.clip_grad_norm_(ordered, options["clip"])  # it compares with the network's list
                        self._rates[f"lr{turn or ''}"] = optimizer.param_groups[0]["lr"]
                        optimizer.step()
                        if not accelerator.optimizer_step_was_skipped:
                            self.schedules[turn].step()
                        optimizer.zero_grad()
                    self.watch.add(losses, 1 / options["accumulate"])
        with torch.no_grad():
            self.recipe.after_step(self.module, step)
        if self.average is not None:
            self.average.update_parameters(self.module)

    def _loader(self) -> Any:
        options, accelerator, job = self.options, self.accelerator, self.job
        return batches.loader(
            job.sources,
            batches.Share(options["batch_size"], accelerator.process_index, accelerator.num_processes),
            self.watch.progress.drawn,
            workers=options["workers"],
            pin_memory=self.device.type == "cuda",
            stream=job.stream,
            buffer=options["shuffle_buffer"],
        )

    def _bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self.plan.total,
            initial=self.watch.progress.step,
            unit="step",
            disable=not self.accelerator.is_main_process or not log.isEnabledFor(logging.WARNING),
            mininterval=0.5 if sys.stderr.isatty() else 30,  # a log file gets a line now and then
        )

    def _fit(self) -> None:
        """Closed-form learning, on the main process; the others take over what it learnt."""
        from accelerate.utils import broadcast

        progress, started = self.watch.progress, time.perf_counter()
        [source] = self.job.sources.values()
        batches.seed_everything(self.options["seed"], 0)
        found = dict(self.recipe.fit(self.module, source.items)) if self.accelerator.is_main_process else {}
        progress.step, progress.seconds = 1, time.perf_counter() - started
        self.watch.write({"step": 1, "seconds": round(progress.seconds, 3)} | found)
        if self.accelerator.num_processes > 1:
            for tensor in self.module.state_dict().values():
                tensor.copy_(broadcast(tensor.clone(), from_process=0))
        self._evaluate()
        self._checkpoint()

    def _evaluate(self) -> dict[str, float]:
        return self.watch.evaluate(self._current(), sharded=self.sharded)

    # --- stopping -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) lets the step end, saves and stops; the second one stops at once."""

        def ask(number: int, frame: Any) -> None:
            if self.asked_to_stop:
                raise KeyboardInterrupt
            self.asked_to_stop = True
            if self.accelerator.is_main_process:
                log.warning("stopping after this step; once more stops at once")

        before = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread
            pass
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stopping(self) -> bool:
        """Whether any process was asked to stop; all agree on the step. Reads the answer one step late, to wait for nothing."""
        if self.accelerator.num_processes == 1:
            return self.asked_to_stop
        flag = torch.tensor(float(self.asked_to_stop), device=self.device)
        before, self._flag = self._flag, self.accelerator.reduce(flag, "sum")
        return before is not None and bool(before.item())

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        if self.sharded:  # it is not said whose buffers are written
            self._share_buffers(self.step_module)
        state = {
            "progress": vars(self.watch.progress),
            "stage": self.stage,
            "processes": self.accelerator.num_processes,
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "average": None if self.average is None or self.sharded else self.average.state_dict(),
            "recipe": self.recipe.state_dict(),
            "config": self.recipe.config(self.module),
        }
        step = self.watch.progress.step
        checkpoints.save(self.accelerator, self.folder / "checkpoints", step, state, self.options["keep"])
        self.watch.record()

    def _resume(self) -> bool:
        """Go back to the last complete checkpoint; False if there is none."""
        found = checkpoints.find(self.folder / "checkpoints")
        if not found:
            return False
        with checkpoints.readable(found[-1]):
            state, processes = checkpoints.load_extra(found[-1]), self.accelerator.num_processes
        if state["processes"] != processes:
            log.warning(
                "%s ran on %d processes and goes on with %d: no sample is lost or repeated, "
                "but the weights will not be bit for bit the same",
                self.folder,
                state["processes"],
                processes,
            )
        if state["config"]:
            self.job.rebuild(state["config"])
        self._build()
        self._prepare(state["stage"])
        with checkpoints.readable(found[-1]):
            self.accelerator.load_state(str(found[-1]))
            for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
                schedule.load_state_dict(saved)
            if state["average"] is not None:
                self.average.load_state_dict(state["average"])
            self.recipe.load_state_dict(state["recipe"])
        self.watch.progress = Progress(**state["progress"])
        if self.accelerator.is_main_process:
            self.watch.run.rewind(self.watch.progress.step)
            if self.job.stream is not None:
                log.warning("the stream is read again and passes over the first %d samples", self.watch.progress.drawn)
        self.accelerator.wait_for_everyone()
        return True

    def close(self) -> None:
        """Let go of trackers and folder."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        if self.lock is not None:
            self.lock.release()


# --- parts ------------------------------------------------------------------------------------------------------------


def _checkpoint_size(module: nn.Module) -> int:
    """Bytes of one checkpoint: weights and two moments of each."""
    return 3 * sum(item.numel() * item.element_size() for item in module.parameters())


def _parameters(optimizer: Any) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def _only(optimizer: Any, optimizers: list[Any]) -> Iterator[None]:
    """Let gradients reach the parameters of this optimizer alone."""
    if len(optimizers) == 1:
        yield
        return
    mine = {id(parameter) for parameter in _parameters(optimizer)}
    others = [
        item for other in optimizers for item in _parameters(other) if id(item) not in mine and item.requires_grad
    ]
    for item in others:
        item.requires_grad_(False)
    try:
        yield
    finally:
        for item in others:
            item.requires_grad_(True)
