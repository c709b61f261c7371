//! Requests about rows, from arguments.

use crate::args::{ExportArgs, ImportArgs, ReadArgs};
use crate::run::{absolute, absolute_opt, list};
use cairn_node::{ExportRequest, ImportRequest, NodeError, ReadOptions, WriteOptions};

pub fn read_options(read: &ReadArgs) -> ReadOptions {
    ReadOptions {
        format: read.format.clone(),
        map: read.map.iter().cloned().collect(),
        ignore: read.ignore.clone(),
        key: read.key.clone(),
        encoding: read.encoding.clone(),
        delimiter: read.delimiter,
        quote: read.quote.clone(),
        escape: read.escape,
        skip: read.skip,
        no_header: read.no_header,
        columns: read.columns.clone(),
        missing: read.missing.clone(),
        keep_empty: read.keep_empty,
        dates: read.dates.clone(),
        tz: read.tz.clone(),
        decimal: read.decimal,
        sheet: read.sheet.clone(),
        ..ReadOptions::default()
    }
}

pub fn import(args: &ImportArgs) -> Result<ImportRequest, NodeError> {
    Ok(ImportRequest {
        file: absolute(&args.file)?,
        mode: args.mode.clone(),
        dataset: args.dataset.clone(),
        category: args.category.clone(),
        read: read_options(&args.read),
        dry_run: args.dry_run,
        strict: args.strict,
        max_delete: args.max_delete,
        allow_empty: args.allow_empty,
        change_key: args.change_key,
        rejects: absolute_opt(&args.rejects)?,
    })
}

pub fn export(args: &ExportArgs) -> Result<ExportRequest, NodeError> {
    Ok(ExportRequest {
        file: absolute(&args.file)?,
        write: WriteOptions { format: args.format.clone(), bom: args.bom, raw: args.raw, delimiter: args.delimiter },
        round: args.round.clone(),
        as_of: args.as_of.clone(),
        pairs: args.pairs,
        filter: list(&args.filter, 0),
    })
}
