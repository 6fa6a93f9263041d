//! The report as a picture: a bar for each row, with minimum and maximum.

use std::path::Path;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use voicelane_bench::picture::{self, Area, BLUE, Failure, GREY, LIGHT, ORANGE, pixel};

use crate::{
    case::{Classes, Program},
    figures::{Report, Row},
};

const WIDTH: u32 = 1_000;
const TOP: i32 = 60;
const LINE: i32 = 20;
const LABEL_WIDTH: i32 = 330;
/// Room for the figures behind the longest bar.
const FIGURES_WIDTH: i32 = 150;

/// Rows that are to be compared, under a title.
struct Section<'a> {
    title: String,
    bars: Vec<(String, &'a Row)>,
}

/// Draws a report to an SVG file.
pub(crate) fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let sections = sections(&report.rows);
    let lines: usize = sections.iter().map(|section| section.bars.len() + 2).sum();
    let height = u32::try_from(TOP)? + u32::try_from(LINE)? * u32::try_from(lines)?;
    picture::draw(file, (WIDTH, height), |area| {
        draw_on(report, &sections, area)
    })
}

fn sections(rows: &[Row]) -> Vec<Section<'_>> {
    let plain = |row: &&Row| {
        !row.saturated
            && row.case.session_every == 1
            && row.case.classes == Classes::Ef
            && row.variations.is_empty()
    };
    let label = |row: &Row| {
        let case = row.case.to_string();
        case.strip_prefix("voicelane, ").unwrap_or(&case).to_owned()
    };
    let full = Section {
        title: "Voicelane with all that a router does".to_owned(),
        bars: (rows.iter())
            .filter(|row| row.case.full)
            .map(|row| (label(row), row))
            .collect(),
    };
    let mut links: Vec<_> = rows.iter().map(|row| (row.ip, row.frame_bytes)).collect();
    links.sort_unstable();
    links.dedup();
    let links = links.into_iter().map(|link| {
        let mut same: Vec<_> = rows
            .iter()
            .filter(plain)
            .filter(|row| (row.ip, row.frame_bytes) == link)
            .collect();
        same.sort_by_key(|row| (row.flows, row.case.program));
        Section {
            title: format!("IPv{}, frames of {} bytes", link.0, link.1),
            bars: same
                .into_iter()
                .map(|row| (format!("{}, {} flows", row.name, row.flows), row))
                .collect(),
        }
    });
    let mut sections: Vec<_> = std::iter::once(full).chain(links).collect();
    sections.push(Section {
        title: "Other loads and builds".to_owned(),
        bars: rows
            .iter()
            .filter(|row| !plain(row) && !row.case.full)
            .map(|row| (label(row), row))
            .collect(),
    });
    sections.retain(|section| !section.bars.is_empty());
    sections
}

fn draw_on<'a>(
    report: &Report,
    sections: &[Section<'_>],
    area: &Area<'a>,
) -> Result<(), Failure<'a>> {
    let title = "TSC cycles a packet on one core: minimum, median, maximum";
    area.draw(&Text::new(title, (16, 14), font(20)))?;
    let machine = format!(
        "{}; commit {:.12}; {}",
        report.machine, report.commit, report.date
    );
    area.draw(&Text::new(machine, (16, 38), font(12)))?;

    let longest = sections
        .iter()
        .flat_map(|section| &section.bars)
        .map(|(_, row)| row.cycles_per_packet.max)
        .fold(1.0, f64::max);
    let room = WIDTH.cast_signed() - LABEL_WIDTH - FIGURES_WIDTH;
    let x = |cycles: f64| LABEL_WIDTH + pixel(cycles / longest * f64::from(room));
    let mut y = TOP;
    for section in sections {
        y += LINE;
        area.draw(&Text::new(section.title.clone(), (16, y), font(15)))?;
        y += LINE;
        for (label, row) in &section.bars {
            bar(area, y, label, row, &x)?;
            y += LINE;
        }
    }
    Ok(())
}

fn bar<'a>(
    area: &Area<'a>,
    y: i32,
    label: &str,
    row: &Row,
    x: &impl Fn(f64) -> i32,
) -> Result<(), Failure<'a>> {
    let colour = match row.case.program {
        Program::Voicelane => BLUE,
        Program::Floor => LIGHT,
        _ => ORANGE,
    };
    let cycles = row.cycles_per_packet;
    let right = font(12).pos(Pos::new(HPos::Right, VPos::Center));
    let left = font(12).pos(Pos::new(HPos::Left, VPos::Center));
    let middle = y + LINE / 2;
    area.draw(&Text::new(
        label.to_owned(),
        (LABEL_WIDTH - 8, middle),
        right,
    ))?;
    let corners = [(x(0.0), y + 3), (x(cycles.median), y + LINE - 3)];
    area.draw(&Rectangle::new(corners, colour.filled()))?;
    let whisker = vec![(x(cycles.min), middle), (x(cycles.max), middle)];
    area.draw(&PathElement::new(whisker, GREY.stroke_width(2)))?;
    let figures = format!("{:.0}  ({:.1} Mpps)", cycles.median, row.mpps.median);
    area.draw(&Text::new(
        figures,
        (x(cycles.max.max(cycles.median)) + 6, middle),
        left,
    ))
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&GREY)
}
