//! What is beside the list: the output of the selected command, or what is known of the selected session.

use ratatui::text::Line;

use super::model::Target;

/// What is shown of one row.
#[derive(Debug)]
pub(super) struct Preview {
    /// Of what.
    pub(super) target: Target,
    /// Empty until it has been read.
    pub(super) lines: Vec<Line<'static>>,
    /// What is not shown of it, or why there is nothing.
    pub(super) note: Option<String>,
}
