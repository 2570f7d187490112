"""Training of LoRA and QLoRA adapters: request, estimate, training, artifacts.

Workers import torch; the app imports only what reads their results.

    training         what the page calls: inspect, estimate, try, start, stop, resume, export
    request          the requests of trainings and exports: every setting once, with bounds
    presets          the settings in presets.toml
    estimate         memory and time before a training
    base_model       where the base's files are: embedded, a folder, the Hub
    inspect_dataset  WORKER: reads a dataset and reports what is in it
    dataset_report   that report
    train            WORKER: TRL and PEFT
    train_unsloth    WORKER: the same with Unsloth
    trainer          a training from its data to its adapter, for both workers
    encode           conversations to tokens and labels
    progress         events of a training, stops, loss spikes
    checkpoints      the newest checkpoint that is complete
    tracking         Weights & Biases
    save_artifacts   the adapter, its record, and what an export is checked with
    artifacts        the training record and the model card
    status           the status and the loss curve of a run
"""
