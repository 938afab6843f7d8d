//! Plots by day, as SVG. How they look is left to the style of the page, which knows whether it is light or dark.

use std::io;

use jiff::civil::Date;
use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::Rectangle;
use plotters::style::{BLACK, Color, TRANSPARENT};

/// Twice as large as it is shown, as the crate draws at whole points only.
const SIZE: (u32, u32) = (1200, 440);

/// The size of letters.
const LETTERS: u32 = 34;

/// How much of a day a bar leaves free on each side.
const GAP: f64 = 0.12;

/// How high the axis is at least, so that numbers of failures are whole.
const LEAST: f64 = 4.0;

/// A plot with a bar for each day.
pub struct Plot {
    /// By what the style knows it.
    pub id: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// What is inside of the picture.
    pub drawing: String,
    /// How wide and how high it is.
    pub size: (u32, u32),
    pub first: Date,
    pub last: Date,
    /// All that is shown, rounded.
    pub sum: String,
    /// The day with the most, and how much that is, rounded; nothing if all days have nothing.
    pub most: Option<(Date, String)>,
}

impl Plot {
    /// Draws days, of which there is at least one.
    ///
    /// # Errors
    ///
    /// If the crate can't draw it.
    pub fn of(id: &'static str, unit: &'static str, days: &[(Date, f64)]) -> Result<Plot, String> {
        let mut svg = String::new();
        draw(&mut svg, days).map_err(|error| error.to_string())?;
        let inside = svg.split_once('>').and_then(|(_, inside)| inside.rsplit_once("</svg>"));
        let rounded = |value: f64| format!("{value:.0}");
        let most = days.iter().max_by(|one, other| one.1.total_cmp(&other.1)).filter(|(_, value)| *value > 0.0);
        let date = |day: Option<&(Date, f64)>| day.map_or(Date::ZERO, |(date, _)| *date);
        Ok(Plot {
            id,
            unit,
            drawing: inside.map(|(inside, _)| inside.to_owned()).unwrap_or_default(),
            size: SIZE,
            first: date(days.first()),
            last: date(days.last()),
            sum: rounded(days.iter().map(|(_, value)| value).sum()),
            most: most.map(|(date, value)| (*date, rounded(*value))),
        })
    }
}

fn draw(svg: &mut String, days: &[(Date, f64)]) -> Result<(), DrawingAreaErrorKind<io::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let most = days.iter().map(|(_, value)| *value).fold(LEAST, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .margin_top(LETTERS / 2)
        .margin_right(LETTERS)
        .x_label_area_size(LETTERS * 2)
        .y_label_area_size(LETTERS * 3)
        .build_cartesian_2d(0.0..days.len() as f64, 0.0..most * 1.05)?;
    let label = |place: &f64| {
        // Labels are in the middle of days, and nowhere else.
        let day = days.get(*place as usize);
        day.map(|(date, _)| date.strftime("%b %-d").to_string()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.2))
        .axis_style(BLACK)
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&label)
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", LETTERS))
        .draw()?;
    chart.draw_series(days.iter().enumerate().filter(|(_, (_, value))| *value > 0.0).map(|(day, (_, value))| {
        let left = day as f64;
        Rectangle::new([(left + GAP, 0.0), (left + 1.0 - GAP, *value)], BLACK.filled())
    }))?;
    area.present()
}

/// A number on an axis, without decimals that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
