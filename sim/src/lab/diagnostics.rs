//! Errors in what the user wrote, with their places.
//!
//! Decides how they read: `file:line:column: message`, the source line, a caret under the place, and the other place where
//! two contradict each other. All that are found are reported at once. Text that came from a file is printed without
//! control characters, so that a file can't drive the terminal.

use std::fmt;

/// Most errors that are printed; the rest is counted.
const SHOWN: usize = 30;

/// Most errors that are kept: a file that is wrong in every line doesn't fill the memory.
const KEPT: usize = 1000;

/// Most characters of a source line that are printed.
const LINE: usize = 120;

/// A place in one of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pos {
    /// Number of the source.
    pub(crate) source: usize,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// Length of what stands there, in characters, on that line.
    pub(crate) len: usize,
}

impl Pos {
    /// Of values that a preset gave.
    pub(crate) const NOWHERE: Self = Self {
        source: usize::MAX,
        line: 0,
        column: 0,
        len: 0,
    };
}

/// A value and where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) pos: Pos,
}

/// A place in words and with its line, independent of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: String,
    line: usize,
    column: usize,
    len: usize,
    text: String,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    message: String,
    place: Option<Place>,
    related: Option<(String, Place)>,
}

impl Diagnostic {
    /// What is wrong, without its place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// File, line and column, both from 1, where it has a place.
    #[must_use]
    pub fn place(&self) -> Option<(&str, usize, usize)> {
        self.place
            .as_ref()
            .map(|place| (place.file.as_str(), place.line, place.column))
    }
}

/// Every error that was found; never empty where it is returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Found and not kept.
    more: usize,
}

impl Diagnostics {
    /// The errors in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Number of errors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len() + self.more
    }

    /// True when nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// An error that has no place in a file.
    #[must_use]
    pub fn single(message: impl Into<String>) -> Self {
        let mut all = Self::default();
        all.push(Diagnostic {
            message: message.into(),
            place: None,
            related: None,
        });
        all
    }

    /// Adds the errors of `other`.
    pub fn extend(&mut self, other: Self) {
        self.more += other.more;
        for diagnostic in other.list {
            self.push(diagnostic);
        }
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < KEPT {
            self.list.push(diagnostic);
        } else {
            self.more += 1;
        }
    }
}

impl std::error::Error for Diagnostics {}

/// Collects errors about some sources.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    sources: &'a [super::Source],
    found: Diagnostics,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(sources: &'a [super::Source]) -> Self {
        Self {
            sources,
            found: Diagnostics::default(),
        }
    }

    pub(crate) fn error(&mut self, pos: Pos, message: impl Into<String>) {
        self.conflict(Some(pos), message, None, "");
    }

    /// An error that may have no place.
    pub(crate) fn error_at(&mut self, pos: Option<Pos>, message: impl Into<String>) {
        self.conflict(pos, message, None, "");
    }

    /// An error that has to do with another place as well.
    pub(crate) fn conflict(
        &mut self,
        pos: Option<Pos>,
        message: impl Into<String>,
        other: Option<Pos>,
        note: &str,
    ) {
        if self.found.list.len() >= KEPT {
            self.found.more += 1;
            return;
        }
        let place = pos.map(|pos| self.place(pos));
        let related = other.map(|other| (note.to_owned(), self.place(other)));
        self.found.push(Diagnostic {
            message: message.into(),
            place,
            related,
        });
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Diagnostics> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }

    /// `file:line:column`
    pub(crate) fn describe(&self, pos: Pos) -> String {
        let file = self
            .sources
            .get(pos.source)
            .map_or("", |source| source.name.as_str());
        format!("{file}:{}:{}", pos.line, pos.column)
    }

    fn place(&self, pos: Pos) -> Place {
        let source = self.sources.get(pos.source);
        Place {
            file: source.map_or_else(String::new, |source| source.name.clone()),
            line: pos.line,
            column: pos.column,
            len: pos.len,
            text: source
                .and_then(|source| source.text.lines().nth(pos.line.saturating_sub(1)))
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// `; did you mean "x"?`, or nothing when no candidate is near.
pub(crate) fn hint<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

/// The candidate that is most like `word`, if one is near enough to be a slip.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // Quadratic in the length: a megabyte of a word is no slip of the pen.
    if word.len() > 256 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `text` without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

impl Place {
    /// The line and the caret, each with a newline before it. A long line is cut around the place.
    fn excerpt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.trim().is_empty() {
            return Ok(());
        }
        let column = self.column.saturating_sub(1);
        let start = column.saturating_sub(LINE / 2);
        let shown: String = self.text.chars().skip(start).take(LINE).collect();
        let room = shown.chars().count().saturating_sub(column - start).max(1);
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(column - start);
        let caret = "^".repeat(self.len.clamp(1, room));
        write!(
            f,
            "\n {number} | {}\n {margin} | {indent}{caret}",
            printable(&shown)
        )
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(
                f,
                "{}:{}:{}: ",
                printable(&place.file),
                place.line,
                place.column
            )?;
        }
        f.write_str(&printable(&self.message))?;
        if let Some(place) = &self.place {
            place.excerpt(f)?;
        }
        if let Some((note, place)) = &self.related {
            write!(
                f,
                "\n{}:{}:{}: {note}",
                printable(&place.file),
                place.line,
                place.column
            )?;
            place.excerpt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.list.iter().take(SHOWN).enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.len() > SHOWN {
            write!(f, "\nand {} more", self.len() - self.list.len().min(SHOWN))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Source;

    /// The caret stands under the place, also on a line that is cut, and control characters are gone.
    #[test]
    fn the_caret_stands_under_the_place() {
        let text = format!("a: 1\n{}bad\u{1b}[2J: x\n", " ".repeat(200));
        let sources = [Source::new("lab.yaml", text)];
        let mut sink = Sink::new(&sources);
        sink.error(
            Pos {
                source: 0,
                line: 2,
                column: 201,
                len: 3,
            },
            "no",
        );
        let text = sink.finish(None::<()>).unwrap_err().to_string();
        assert!(!text.contains('\u{1b}'));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "lab.yaml:2:201: no");
        assert_eq!(lines[1].find("bad"), lines[2].find("^^^"));
    }

    /// A slip finds its word, something else finds none.
    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("presett", ["preset", "pods"]), Some("preset"));
        assert_eq!(nearest("podcidr", ["podCIDR"]), Some("podCIDR"));
        assert_eq!(nearest("banana", ["preset", "pods"]), None);
    }
}
