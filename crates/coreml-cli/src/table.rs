//! Tables with aligned columns, for people.

use std::io::{self, Write};

/// Prints rows with every column as wide as its widest cell, two spaces apart. The last column is not padded.
pub(crate) fn print(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints rows under titles, two spaces apart. A column is its title and whether its cells are numbers, which are
/// right-aligned. If there are no titles, their line is left out.
pub(crate) fn columns(out: &mut impl Write, columns: &[(&str, bool)], rows: &[Vec<String>]) -> io::Result<()> {
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let titled = titles.iter().any(|title| !title.is_empty());
    let all: Vec<&Vec<String>> = titled.then_some(&titles).into_iter().chain(rows).collect();
    let width = |i: usize| all.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in all {
        let cells = row.iter().zip(columns.iter().zip(&widths)).map(|(cell, ((_, number), &width))| {
            if *number { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints a Markdown table. A column is its title and whether its cells are numbers, which are right-aligned.
pub(crate) fn markdown(out: &mut impl Write, columns: &[(&str, bool)], rows: &[Vec<String>]) -> io::Result<()> {
    let widest = |(i, (title, _)): (usize, &(&str, bool))| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([title.chars().count(), 3]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(widest).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| -> String {
        let padded = cells.zip(columns.iter().zip(&widths)).map(|(cell, ((_, number), &width))| {
            if *number { format!("| {cell:>width$} ") } else { format!("| {cell:width$} ") }
        });
        padded.collect::<String>() + "|"
    };
    writeln!(out, "{}", line(&mut columns.iter().map(|(title, _)| *title)))?;
    let rule = columns.iter().zip(&widths).map(|((_, number), &width)| {
        let dashes = "-".repeat(width + 1);
        if *number { format!("|{dashes}:") } else { format!("|{dashes}-") }
    });
    writeln!(out, "{}|", rule.collect::<String>())?;
    for row in rows {
        writeln!(out, "{}", line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn markdown_numbers_stand_on_the_right() {
        let rows = [vec!["a".into(), "1".into()], vec!["long".into(), "22".into()]];
        let mut out = Vec::new();
        super::markdown(&mut out, &[("what", false), ("ms", true)], &rows).unwrap();
        let expected = "| what |  ms |\n|------|----:|\n| a    |   1 |\n| long |  22 |\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn plain_numbers_stand_on_the_right() {
        let rows = [vec!["a".into(), "1".into(), "b".into()], vec!["long".into(), "22".into(), String::new()]];
        let mut out = Vec::new();
        super::columns(&mut out, &[("what", false), ("ms", true), ("", false)], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "what  ms\na      1  b\nlong  22\n");
        let mut out = Vec::new();
        super::columns(&mut out, &[("", true)], &rows[..1]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\n", "no line for titles that are not there");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "1".into()], vec!["long".into(), "2".into()], vec!["é".into(), String::new()]];
        let mut out = Vec::new();
        super::print(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a     1\nlong  2\né\n");
    }
}
