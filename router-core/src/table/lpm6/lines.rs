//! Which lines of the forwarding table are in use by which nodes.

use alloc::vec::Vec;

use super::Full;
use super::nodes::{self, Form, Table};
use crate::table::limbo::Limbo;

/// Which lines are in use.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// First lines of unused nodes, by form.
    pub(super) narrow: Vec<u32>,
    pub(super) wide: Vec<u32>,
    /// Lines from here on were never used.
    pub(super) fresh: usize,
    /// Nodes that readers may still be in.
    pub(super) limbo: Limbo<u32, Table>,
}

impl Lines {
    /// A slot that leads to unused lines for a node.
    pub(super) fn take(&mut self, form: Form, table: &Table) -> Result<u32, Full> {
        if let Some(node) = self.unused(form) {
            return Ok(node);
        }
        let end = self.fresh + form.lines();
        if let Some(node) = form.link(self.fresh)
            && end <= table.lines()
        {
            self.fresh = end;
            return Ok(node);
        }
        for _ in 0..2 {
            let Self {
                narrow,
                wide,
                limbo,
                ..
            } = self;
            limbo.turn(|node| free(node, narrow, wide));
        }
        self.unused(form).ok_or(Full)
    }

    fn unused(&mut self, form: Form) -> Option<u32> {
        match form {
            Form::Wide => self.wide.pop(),
            Form::Narrow => self.narrow.pop().or_else(|| {
                // A wide one makes many.
                let line = nodes::line(self.wide.pop()?);
                let lines = line..line + Form::Wide.lines();
                self.narrow
                    .extend(lines.filter_map(|l| Form::Narrow.link(l)));
                self.narrow.pop()
            }),
        }
    }

    /// Takes back a node that nothing ever led to.
    pub(super) fn put_back(&mut self, node: u32) {
        free(node, &mut self.narrow, &mut self.wide);
    }

    /// Nobody is in any of the nodes that were given back: the table is a copy.
    pub(super) fn settle(&mut self) {
        let Self {
            narrow,
            wide,
            limbo,
            ..
        } = self;
        limbo.clear(|node| free(node, narrow, wide));
    }

    /// Lines of nodes that are not in use.
    pub(super) fn free(&self) -> usize {
        self.narrow.len() + self.wide.len() * Form::Wide.lines()
    }

    /// Takes back a node that nothing leads to any more.
    pub(super) fn give(&mut self, node: u32) {
        let Self {
            narrow,
            wide,
            limbo,
            ..
        } = self;
        limbo.add(node, |node| free(node, narrow, wide));
    }
}

fn free(node: u32, narrow: &mut Vec<u32>, wide: &mut Vec<u32>) {
    match Form::of(node) {
        Form::Narrow => narrow.push(node),
        Form::Wide => wide.push(node),
    }
}
