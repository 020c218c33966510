//! Tables with kubectl's layout: left-aligned columns, three spaces between them, no trailing blanks, no borders.
//!
//! Source: `k8s.io/cli-runtime/pkg/printers` (tabwriter with a padding of 3). Cost: two passes over the cells.

/// Rows under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Spaces between two columns.
const PADDING: usize = 3;

impl Table {
    /// A table with these column titles.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a line. Cells beyond the header are printed all the same, missing ones are left out.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// True without rows; the header does not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, one line for the header (unless `no_header`) and one for each row, each with its newline.
    #[must_use]
    pub fn render(&self, no_header: bool) -> String {
        let head = (!no_header).then_some(&self.header);
        let lines: Vec<&Vec<String>> = head.into_iter().chain(&self.rows).collect();
        let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| {
                let cells = lines.iter().filter_map(|line| line.get(i));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for line in lines {
            let last = line.len().saturating_sub(1);
            for (i, cell) in line.iter().enumerate() {
                out.push_str(cell);
                if i < last {
                    let blanks = widths[i] - cell.chars().count() + PADDING;
                    out.extend(std::iter::repeat_n(' ', blanks));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_three_spaces_apart_and_the_last_is_not_padded() {
        let mut table = Table::new(["NAME", "READY", "AGE"]);
        table.row(["coredns-64897985d-llrjh", "1/1", "7m25s"]);
        table.row(["a", "0/1", "5s"]);
        assert_eq!(
            table.render(false),
            "NAME                      READY   AGE\n\
             coredns-64897985d-llrjh   1/1     7m25s\n\
             a                         0/1     5s\n"
        );
    }

    #[test]
    fn without_a_header_the_rows_alone_decide_the_widths() {
        let mut table = Table::new(["A LONG TITLE", "B"]);
        table.row(["x", "y"]);
        assert_eq!(table.render(true), "x   y\n");
    }
}
