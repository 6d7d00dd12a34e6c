//! Aligned columns for people.

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

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "1".into()], vec!["long".into(), "2".into()], vec!["é".into(), String::new()]];
        let mut out = Vec::new();
        super::print(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a     1\nlong  2\né\n");
    }
}
