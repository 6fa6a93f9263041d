//! Reports: figures as JSON for programs, pages with tables as Markdown for people.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// Files that a program writes its report to.
#[derive(Args, Clone, Debug, Default)]
pub struct Files {
    /// Write all figures to this file, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables to this file, as Markdown.
    #[arg(long, global = true, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

impl Files {
    /// Writes the files that were asked for.
    pub fn write(&self, figures: &impl Serialize, page: &str) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write_json(file, figures)?;
        }
        if let Some(file) = &self.markdown {
            write(file, page)?;
        }
        Ok(())
    }
}

/// Writes figures as indented JSON.
pub fn write_json(file: &Path, figures: &impl Serialize) -> anyhow::Result<()> {
    write(file, &(serde_json::to_string_pretty(figures)? + "\n"))
}

/// Writes a page of text; to the folder of kept results only what a commit has shown.
pub fn write(file: &Path, page: &str) -> anyhow::Result<()> {
    let kept = file.parent().and_then(|folder| folder.canonicalize().ok());
    let kept = kept.is_some_and(|folder| folder.ends_with("bench/results"));
    anyhow::ensure!(
        !kept || !crate::commit().ends_with("-dirty"),
        "{} keeps figures of commits: commit the changes first, or write elsewhere",
        file.display()
    );
    fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))
}

/// A Markdown table with these columns ("one | two"), aligned to the right from column number `numbers` on.
#[must_use]
pub fn table(header: &str, numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header.split(" | "));
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_markdown() {
        let mut table = table("case | sum", 1);
        table.add_row(["a", "5"]);
        let lines = ["| case | sum |", "|------|-----|", "| a    |   5 |"];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn files_that_cannot_be_written_are_named() {
        let files = Files {
            json: Some("/nowhere/a.json".into()),
            ..Files::default()
        };
        let error = files.write(&1, "").unwrap_err().to_string();
        assert!(error.contains("/nowhere/a.json"), "{error}");
    }
}
