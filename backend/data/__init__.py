"""Reads datasets of the Hub, files and the embedded dataset into checked conversations. Knows no tokenizer or model.

`hub_dataset` and `parquet` need the packages of training; `load` imports them by name when a dataset needs them.

    columns        finds the columns with the conversation, and the shape of the rows
    conversations  converts a row into a conversation, or gives the reason for dropping it
    dataset        the specification of a dataset, stored with the run
    formats        reads JSON, JSON lines and CSV: records from text
    hub_dataset    reads datasets of the Hub
    load           loads the training split and the eval split
    parquet        reads Parquet files by row groups
    rows           records, rows, dropped rows, duplicates and overlap of the splits
    text_files     opens text files: encodings, gzip and zip, bounded lines
"""
