//! What the web service does for a request: a catalogue that is parsed for, searched, sorted, and rendered into pages of many sizes.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{
    http::{Asked, Reply},
    text::Language,
};

/// Items of the catalogue.
pub(super) const ITEMS: usize = 1_000;
/// Most items of a search on its page.
const MAX_FOUND: usize = 40;
/// Longest page, bytes.
const MAX_PAGE: usize = 256 * 1024;

#[derive(Debug)]
struct Item {
    name: String,
    words: String,
    price_cents: u32,
}

/// The catalogue.
#[derive(Debug)]
pub(super) struct Shop {
    items: Vec<Item>,
}

impl Shop {
    /// The same in every service.
    pub(super) fn new() -> Self {
        let mut language = Language::new(42);
        let mut phrase = |words: usize| (0..words).map(|_| language.word().to_owned()).collect::<Vec<_>>().join(" ");
        let items = (0..ITEMS).map(|place| Item {
            name: format!("{} & {}", phrase(2), phrase(1)),
            words: phrase(30),
            price_cents: (place as u32).wrapping_mul(2_654_435_761) % 100_000,
        });
        Self { items: items.collect() }
    }

    /// A page for a request; listings are `bytes` long on the mean, between half of it and about three times as much.
    pub(super) fn answer(&self, asked: &Asked, bytes: usize) -> Reply {
        match (asked.method.as_str(), asked.path.as_str()) {
            (_, "/healthz" | "/readyz") => Reply::text(200, "ok\n"),
            ("GET", "/" | "/items") => self.listing(&asked.query, bytes),
            ("GET", "/search") => self.search(parameter(&asked.query, "q").unwrap_or_default()),
            ("GET", path) => match path.strip_prefix("/items/").and_then(|id| self.items.get(id.parse::<usize>().ok()?)) {
                Some(item) => page([item].into_iter()),
                None => Reply::text(404, "no such page\n"),
            },
            ("POST", "/orders") => self.order(&asked.body),
            _ => Reply::text(404, "no such page\n"),
        }
    }

    fn listing(&self, query: &str, bytes: usize) -> Reply {
        let number = parameter(query, "page").and_then(|page| page.parse().ok()).unwrap_or_else(|| rand::random_range(0..ITEMS));
        // Sizes of real pages have a long tail: most below the mean, a few at three times it.
        let length = bytes.min(MAX_PAGE) as f64 * [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 1.2, 2.3][number % 10];
        let mut body = opening();
        let mut items = self.items.iter().cycle().skip(number % ITEMS);
        while body.len() < length as usize
            && let Some(item) = items.next()
        {
            render(&mut body, item);
        }
        closed(body)
    }

    fn search(&self, wanted: &str) -> Reply {
        let mut found: Vec<_> = self.items.iter().filter(|item| item.words.split(' ').any(|word| word == wanted)).collect();
        found.sort_by_key(|item| item.price_cents);
        found.truncate(MAX_FOUND);
        page(found.into_iter())
    }

    /// A form such as `item=3&item=7&name=x`: the sum of its items, signed.
    fn order(&self, form: &[u8]) -> Reply {
        let Ok(form) = std::str::from_utf8(form) else { return Reply::text(400, "not text\n") };
        let ids = form.split('&').filter_map(|pair| pair.strip_prefix("item="));
        let Some(items) = ids.map(|id| self.items.get(id.parse::<usize>().ok()?)).collect::<Option<Vec<_>>>() else {
            return Reply::text(400, "no such item\n");
        };
        let cents: u64 = items.iter().map(|item| u64::from(item.price_cents)).sum();
        let signature = hexadecimal(&Sha256::digest(form));
        Reply { status: 201, kind: "application/json", body: format!("{{\"cents\":{cents},\"signature\":\"{signature}\"}}\n").into() }
    }
}

/// A parameter of a query string, as it stands.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn page<'a>(items: impl Iterator<Item = &'a Item>) -> Reply {
    let mut body = opening();
    items.for_each(|item| render(&mut body, item));
    closed(body)
}

fn opening() -> String {
    "<!doctype html>\n<title>shop</title>\n<ul>\n".to_owned()
}

fn closed(mut body: String) -> Reply {
    let digest = Sha256::digest(body.as_bytes());
    let _ = writeln!(body, "</ul>\n<!-- {} -->", hexadecimal(&digest[..8]));
    Reply { status: 200, kind: "text/html", body: body.into() }
}

fn render(body: &mut String, item: &Item) {
    let _ = write!(body, "<li><b>{}</b> <i>{}.{:02}</i><p>", escaped(&item.name), item.price_cents / 100, item.price_cents % 100);
    let _ = writeln!(body, "{}</p></li>", escaped(&item.words));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn answer(method: &str, path: &str, query: &str, body: &str) -> (u16, String) {
        static SHOP: LazyLock<Shop> = LazyLock::new(Shop::new);
        let asked = Asked { method: method.into(), path: path.into(), query: query.into(), body: body.into() };
        let reply = SHOP.answer(&asked, 4_096);
        (reply.status, String::from_utf8(reply.body).unwrap())
    }

    #[test]
    fn listings_have_many_lengths_with_the_mean_asked_for() {
        let lengths: Vec<_> = (0..200).map(|page| answer("GET", "/items", &format!("page={page}"), "").1.len()).collect();

        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!((3_700..4_900).contains(&mean), "{mean}");
        assert!(lengths.iter().min().unwrap() * 4 < *lengths.iter().max().unwrap());
    }

    #[test]
    fn a_search_finds_what_has_the_word_cheapest_first() {
        let word = Shop::new().items[5].words.split(' ').next().unwrap().to_owned();

        let (status, page) = answer("GET", "/search", &format!("q={word}"), "");

        let prices: Vec<f64> = page.lines().filter_map(|line| line.split_once("<i>")?.1.split_once("</i>")?.0.parse().ok()).collect();
        assert_eq!(status, 200);
        assert!(!prices.is_empty() && prices.is_sorted());
        assert!(page.contains("&amp;") && !page.contains(" & "));
    }

    #[test]
    fn an_order_is_summed_and_a_wrong_one_refused() {
        let items = Shop::new().items;
        let cents = items[3].price_cents + items[7].price_cents;

        assert!(answer("POST", "/orders", "", "item=3&item=7&name=x").1.contains(&format!("\"cents\":{cents},")));
        assert_eq!(answer("POST", "/orders", "", "item=1000").0, 400);
        assert_eq!(answer("GET", "/items/1000", "", "").0, 404);
        assert_eq!(answer("GET", "/items/999", "", "").0, 200);
    }
}
