// What wrangler makes of the files that wrangler.toml calls data.
declare module "*.lgb" {
  const bytes: ArrayBuffer;
  export default bytes;
}
declare module "*.lgp" {
  const bytes: ArrayBuffer;
  export default bytes;
}
