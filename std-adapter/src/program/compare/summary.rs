//! The tables of a study. All numbers are of the last epoch.

use super::{
    race::Row,
    report::{Entry, accuracy, held_out_loss, loss_cell, new_table, percent},
    study::Case,
};
use crate::program::text;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

fn loss(row: &Row) -> f64 {
    f64::from(row.loss)
}

/// Adam at the rate with the lowest median training loss.
pub(super) fn best(case: &Case) -> Option<&Entry> {
    let median = |entry: &Entry| entry.median(case.epochs, loss);
    case.adam.iter().min_by(|left, right| median(left).total_cmp(&median(right)))
}

/// The tables of training and of held-out examples, a row a task.
pub(super) fn tables(cases: &[Case]) -> [Table; 2] {
    let both = || cases.iter().filter_map(|case| best(case).map(|adam| (case, adam)));
    let training =
        ["task", "epochs", "EKFAC", "Adam", "Adam at", "ratio", "worst seeds", "not finite", "operations"];
    let held_out = ["task", "EKFAC's loss", "Adam's", "lowest", "EKFAC's accuracy", "Adam's", "highest"];
    let table = |header: &[&str], rows: Vec<Vec<String>>| {
        let mut table = new_table(header.iter().map(ToString::to_string).collect());
        table.add_rows(rows);
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    };
    [
        table(&training, both().map(|(case, adam)| training_cells(case, adam)).collect()),
        table(&held_out, both().filter_map(|(case, adam)| held_out_cells(case, adam)).collect()),
    ]
}

fn training_cells(case: &Case, adam: &Entry) -> Vec<String> {
    let Case { task, epochs, ekfac, adam: rates } = case;
    let [ours, theirs] = [ekfac, adam].map(|entry| entry.median(*epochs, loss));
    let worst = [ekfac, adam].map(|entry| loss_cell(entry.worst(*epochs, loss)));
    let failures = |entries: &[Entry]| {
        let runs = entries.iter().flat_map(|entry| &entry.runs);
        let failed = runs.clone().filter(|rows| rows.last().is_none_or(|row| !row.loss.is_finite()));
        format!("{} of {}", failed.count(), runs.count())
    };
    let work = |entry: &Entry| entry.median(*epochs, |row| row.operations as f64);
    vec![
        task.clone(),
        epochs.to_string(),
        loss_cell(ours),
        loss_cell(theirs),
        rate_cell(adam, rates),
        text::number(ours / theirs),
        worst.join(" / "),
        format!("{} / {}", failures(std::slice::from_ref(ekfac)), failures(rates)),
        format!("{:.1}", work(ekfac) / work(adam)),
    ]
}

fn held_out_cells(case: &Case, adam: &Entry) -> Option<Vec<String>> {
    let entries = [&case.ekfac, adam];
    let losses = entries.map(|entry| held_out_loss(entry, case.epochs));
    let shares = entries.map(|entry| accuracy(entry, case.epochs));
    let mut cells = vec![case.task.clone()];
    cells.extend(losses.into_iter().chain([lowest_held_out(case)]).map(loss_cell));
    cells.extend(shares.into_iter().chain([highest_accuracy(case)]).map(percent));
    is_held_out(case).then_some(cells)
}

fn is_held_out(case: &Case) -> bool {
    held_out_loss(&case.ekfac, 0).is_finite()
}

/// The highest median accuracy that any of Adam's rates reaches; NaN for a regression.
fn highest_accuracy(case: &Case) -> f64 {
    let shares = case.adam.iter().map(|entry| accuracy(entry, case.epochs));
    shares.filter(|share| share.is_finite()).fold(f64::NAN, f64::max)
}

/// The lowest median loss over the held-out examples that any of Adam's rates reaches.
fn lowest_held_out(case: &Case) -> f64 {
    case.adam.iter().map(|entry| held_out_loss(entry, case.epochs)).fold(f64::INFINITY, f64::min)
}

/// The setting, marked where it is the first or the last of the grid.
fn rate_cell(best: &Entry, rates: &[Entry]) -> String {
    let ends = [rates.first(), rates.last()];
    let at_end = ends.into_iter().flatten().any(|entry| entry.setting == best.setting);
    format!("{}{}", best.setting, if at_end { " (end)" } else { "" })
}

/// How many tasks EKFAC leads, by each measure.
pub(super) fn verdict(cases: &[Case]) -> String {
    let both = || cases.iter().filter_map(|case| best(case).map(|adam| (case, adam)));
    let held_out = || both().filter(|(case, _)| is_held_out(case));
    // Pairs of EKFAC's value and the other's, of which the lower one is ahead.
    let ahead = |what: &str, pairs: Vec<[f64; 2]>| {
        let won = pairs.iter().filter(|[ours, theirs]| ours < theirs).count();
        let level = pairs.iter().filter(|[ours, theirs]| ours == theirs).count();
        let level = if level > 0 { format!(", level on {level}") } else { String::new() };
        (!pairs.is_empty()).then(|| format!("{what} on {won} of {}{level}", pairs.len()))
    };
    let training =
        both().map(|(case, adam)| [&case.ekfac, adam].map(|entry| entry.median(case.epochs, loss)));
    let same =
        held_out().map(|(case, adam)| [&case.ekfac, adam].map(|entry| held_out_loss(entry, case.epochs)));
    let lowest = held_out().map(|(case, _)| [held_out_loss(&case.ekfac, case.epochs), lowest_held_out(case)]);
    // Errors in place of accuracies, so that less is better here too.
    let errors =
        held_out().map(|(case, adam)| [&case.ekfac, adam].map(|entry| 1.0 - accuracy(entry, case.epochs)));
    let errors = errors.filter(|errors| errors.iter().all(|error| error.is_finite()));
    let measures = [
        ahead("by training loss", training.collect()),
        ahead("by held-out loss", same.collect()),
        ahead("by held-out loss against the best of Adam's rates for it", lowest.collect()),
        ahead("by held-out accuracy", errors.collect()),
    ];
    let measures: Vec<String> = measures.into_iter().flatten().collect();
    format!("EKFAC ends ahead {}.", measures.join("; "))
}

/// The tables with how to read them.
pub(super) fn markdown(title: &str, cases: &[Case]) -> String {
    let [training, held_out] = tables(cases).map(|mut table| {
        table.load_style(ASCII_MARKDOWN);
        table
    });
    format!(
        "# {title}

{}

All numbers are of the last epoch. \"Adam\" is the one of nine rates with the lowest median training loss, chosen for each task by
the very runs that are shown; EKFAC has one setting for all. \"(end)\": at the end of the grid, so a rate beyond may be better.

## Training

{training}

* ratio: EKFAC's loss over Adam's; below 1, EKFAC ends lower.
* worst seeds: the highest loss of any seed, EKFAC's / Adam's.
* not finite: runs that ended so, EKFAC's / Adam's over all nine rates.
* operations: multiplications and additions that were counted, Adam's = 1, for the same number of epochs.

## Held-out examples

{held_out}

* lowest, highest: the best that any of Adam's nine rates reaches.

Every run is in `study.csv`; the losses are drawn in `study.svg` and `study-held-out.svg`.
",
        verdict(cases)
    )
}
