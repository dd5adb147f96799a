"""Opens the live page of the admin endpoint in headless Chromium and clicks through it.

Arguments: the address of the endpoint, the path of chromedriver, the path of Chromium, and a folder for
pictures or "-". What is wrong ends it with a line that says what.
"""

import base64
import json
import sys
import tempfile
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 30


def start(chromedriver, chromium, profile):
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(service=Service(chromedriver), options=options)


class Page:
    def __init__(self, driver, address, pictures):
        self.driver = driver
        self.url = f"http://{address}/"
        self.pictures = pictures

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.find(selector).text

    def rows(self, table):
        rows = self.driver.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")
        return [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]

    def wait(self, what, condition):
        def holds(_):
            try:
                return condition()
            except Exception:
                return False

        try:
            return WebDriverWait(self.driver, PATIENCE, 0.1).until(holds)
        except Exception:
            raise SystemExit(f"never: {what}\n{self.text('body')}") from None

    def looks(self, scheme, width, height):
        command = self.driver.execute_cdp_cmd
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        command("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self, name):
        if self.pictures == "-":
            return
        size = self.driver.execute_script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        with open(f"{self.pictures}/{name}.png", "wb") as file:
            file.write(base64.b64decode(shot["data"]))


def check(holds, what):
    if not holds:
        raise SystemExit(f"not so: {what}")


def live(page):
    """The figures are there, and move."""
    page.driver.get(page.url)
    page.wait("a state", lambda: page.text("#state") == "ready")
    page.wait("a rate", lambda: page.text("#tile-sessions") == "3")
    chains = page.rows("chains")
    check([row[0] for row in chains] == ["edge / blue", "edge / default"], chains)
    check(chains[0][1] == "3", chains)
    page.wait("refusals", lambda: page.rows("refusals")[0][0] == "no_certificate")
    check(len(page.rows("workers")) == 2, page.rows("workers"))
    clusters = page.driver.find_elements(By.CSS_SELECTOR, ".cluster")
    check([one.find_element(By.TAG_NAME, "h3").text for one in clusters] == ["app", "down"], "clusters")
    page.wait("a verdict of the probes", lambda: "unhealthy" in clusters[1].text)
    check("healthy" in clusters[0].text and "unhealthy" not in clusters[0].text, clusters[0].text)
    page.wait("certificates", lambda: len(page.rows("certs")) >= 2)
    picture = lambda: page.find("#chart-handshakes svg").get_attribute("aria-label")
    page.wait("a chart", lambda: "resumed" in picture())
    first = page.text("#uptime")
    page.wait("time to go on", lambda: page.text("#uptime") != first)


def clicks(page):
    """Filter, order, connections, pause."""
    page.find("#chain-filter").send_keys("blu")
    page.wait("one tenant", lambda: len(page.rows("chains")) == 1)
    page.find("#chain-filter").send_keys(Keys.BACKSPACE * 3)
    page.wait("two tenants", lambda: len(page.rows("chains")) == 2)
    page.find("#chains [data-sort=name]").click()
    page.find("#chains [data-sort=name]").send_keys(Keys.ENTER)
    order = lambda: page.find("#chains th").get_attribute("aria-sort")
    page.wait("the order turned", lambda: order() == "descending")
    check(page.rows("chains")[0][0] == "edge / default", page.rows("chains"))
    page.find("#connections-show").click()
    page.wait("connections", lambda: len(page.rows("connections")) == 3)
    row = page.rows("connections")[0]
    check(row[1] == "relaying" and row[2] == "blue.edge.test", row)
    check("spiffe://test/alice" in row[3], row)
    page.find("#pause").click()
    check(page.find("#pause").get_attribute("aria-pressed") == "true", "paused")
    page.find("#pause").click()


def reload(page):
    """Who clicks is answered; what is wrong is said."""
    before = int(page.text("#generation"))
    page.find("#reload").click()
    page.wait("an answer", lambda: page.find("#result").is_displayed())
    check('"key_count": 0' in page.text("#result-text"), page.text("#result-text"))
    page.find("#result button").click()
    page.wait("the next generation", lambda: int(page.text("#generation")) == before + 1)


def keyboard(page):
    """Every control is reached by Tab alone, and shows it."""
    page.driver.get(page.url)
    page.wait("a state", lambda: page.text("#state") == "ready")
    page.wait("all parts", lambda: page.rows("certs") and page.find("#chart-bytes svg"))
    reached = set()
    for _ in range(60):
        webdriver.ActionChains(page.driver).send_keys(Keys.TAB).perform()
        active = page.driver.switch_to.active_element
        reached.add(active.get_attribute("id") or active.get_attribute("data-sort") or active.text)
        outline = active.value_of_css_property("outline-style")
        check(outline != "none", f"focus of {active.get_attribute('outerHTML')[:80]} does not show")
        if active.text == "metrics":
            break
    wanted = {"pause", "reload", "drain", "chain-filter", "open", "connections-show", "metrics"}
    check(wanted <= reached, f"by keyboard only {reached}")


NAMELESS = """
const named = (node) => (node.getAttribute('aria-label') || node.getAttribute('aria-labelledby')
  || node.textContent || (node.labels && node.labels.length)) ? true : false;
return [...document.querySelectorAll('button, input, a, table, [role=region], [role=img], section')]
  .filter((node) => !named(node)).map((node) => node.outerHTML.slice(0, 90));
"""

# WCAG 2.1, 1.4.3: every text against the nearest background that is not transparent.
PALE = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (c) => c.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const colour = parse(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const pale = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
  if (['SCRIPT', 'NOSCRIPT'].includes(node.tagName)) continue;
  const [one, other] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) pale.push(`${contrast.toFixed(2)} ${node.className} ${node.textContent.slice(0, 40)}`);
}
return pale;
"""


def appearance(page):
    """In light and dark, wide and on a phone: nothing sticks out, every text can be read."""
    for scheme in ("light", "dark"):
        for width, height in ((1280, 900), (390, 844)):
            page.looks(scheme, width, height)
            name = f"{scheme}-{width}"
            page.wait("the width", lambda: page.driver.execute_script("return innerWidth") == width)
            over = page.driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
            check(over <= 0, f"{name}: {over} pixels too wide")
            pale = page.driver.execute_script(PALE)
            check(not pale, f"{name}: too little contrast: {pale}")
            page.picture(name)
    check(not page.driver.execute_script(NAMELESS), page.driver.execute_script(NAMELESS))


def nothing_from_elsewhere(page):
    """Every request went to the endpoint, and the browser had nothing to complain of."""
    hosts = set()
    for entry in page.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            parts = urlsplit(message["params"]["request"]["url"])
            if parts.scheme in ("http", "https", "ws"):
                hosts.add(parts.netloc)
    check(hosts == {urlsplit(page.url).netloc}, f"requests went to {hosts}")
    wrong = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    check(not wrong, f"the browser complains: {wrong}")


def drain(page):
    """Asked twice; then the page says what becomes of the gateway."""
    page.looks("light", 1280, 900)
    page.find("#drain").click()
    page.wait("the question", lambda: page.find("#confirm").is_displayed())
    check(page.driver.switch_to.active_element.text == "Keep serving", "the safe answer has the focus")
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait("the question gone", lambda: not page.find("#confirm").is_displayed())
    check(page.text("#state") == "ready", "it serves on")
    page.find("#drain").click()
    page.find("#confirm button[value=yes]").click()
    page.wait("an answer", lambda: '"draining": true' in page.text("#result-text"))
    page.find("#result button").click()
    page.wait("the state", lambda: page.text("#state") == "draining")


def main():
    address, chromedriver, chromium, pictures = sys.argv[1:]
    with tempfile.TemporaryDirectory() as profile:
        driver = start(chromedriver, chromium, profile)
        try:
            page = Page(driver, address, pictures)
            live(page)
            clicks(page)
            reload(page)
            keyboard(page)
            appearance(page)
            nothing_from_elsewhere(page)
            drain(page)
        finally:
            driver.quit()
    print("seen, clicked and drained")


main()
