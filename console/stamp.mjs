// Says whether dist/ is what the sources make: `--write` after a build, without it a check.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const files = (folder) =>
  readdirSync(join(here, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = `${folder}/${entry.name}`;
    return entry.isDirectory() ? files(name) : [name];
  });
// The contract is additive: a page made from an older one goes on to work, so proto/ does not count.
const sources = [
  ...["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "buf.gen.yaml"],
  ...files("src").filter((name) => !name.startsWith("src/gen/")),
  ...files("public"),
].sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(`${name}\0`).update(readFileSync(join(here, name)));
const now = hash.digest("hex");
const stamp = join(here, "dist/sources.txt");
if (process.argv.includes("--write")) {
  writeFileSync(stamp, `${now}\n`);
} else if (readFileSync(stamp, "utf8").trim() !== now) {
  console.error("console/dist is not what console/src makes: run `make console` and commit it");
  process.exit(1);
}
